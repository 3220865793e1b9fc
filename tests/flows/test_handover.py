"""Values on their way into flows and tasks."""

import inspect
import pickle
from pathlib import Path

import pytest

import flows.handover
from flows.batch import batch
from flows.handover import OpaqueJob, last_part, literal, named_by
from flows.scene import run_scene
from flows.schedule import new_scenes
from flows.training import train
from pipeline.operations.parameters import BatchParameters, ScheduleParameters
from pipeline.operations.scene_parameters import SceneParameters
from pipeline.training.request import TrainingRequest


def test_progress_stays_in_the_process_of_the_job():
    opaque = OpaqueJob("job", [].append)
    assert opaque.on_tile is not None
    arrived = pickle.loads(pickle.dumps(opaque))  # noqa: S301 (written right here)
    assert (arrived.job, arrived.on_tile) == ("job", None)


def test_a_flow_that_is_pickled_for_another_process_takes_no_work_along(monkeypatch):
    monkeypatch.setitem(flows.handover._HANDED_OVER, "token", object())
    assert pickle.loads(pickle.dumps(flows.handover._HANDED_OVER)) == {}  # noqa: S301


FLOWS = (
    *((run_scene, SceneParameters), (batch, BatchParameters), (new_scenes, ScheduleParameters)),
    (train, TrainingRequest),
)


@pytest.mark.parametrize("flow", [flow for flow, _ in FLOWS], ids=lambda flow: flow.name)
def test_every_parameter_has_a_description_on_prefects_pages(flow):
    properties = flow.parameters.properties
    assert [name for name, each in properties.items() if not each.get("description")] == []
    assert properties["out"]["description"].startswith("Folder of the ")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/in/S2A_MSIL2A.SAFE/", "S2A_MSIL2A.SAFE"),
        ("https://host/items/T32UPD?token=hidden", "T32UPD"),
        ("local-file-system/layers", "layers"),
    ],
)
def test_a_run_is_named_by_its_scene_or_folder(address, name, monkeypatch):
    assert last_part(address) == name
    monkeypatch.setattr(
        flows.handover.flow_run, "get_parameters", lambda: {"kind": "detector", "out": address}, raising=False
    )
    assert named_by("kind", "out")() == f"detector-{name}"
    assert named_by("out", unique=True)().startswith(f"{name}-")


def test_parameters_of_flows_are_plain_and_written_once():
    for flow, kind in FLOWS:
        assert list(flow.parameters.properties) == list(inspect.signature(kind).parameters)
    assert batch.parameters.required == ["out"]
    parameters = BatchParameters(out="/layers", settings=["engine.threads=1"], bands=["B04", "B03"])
    assert (parameters.out, parameters.bands) == (Path("/layers"), ("B04", "B03"))
    given = batch.validate_parameters(parameters.model_dump(mode="json"))
    assert BatchParameters(**given) == parameters


@pytest.mark.parametrize("name", ["{token}", "{0.__class__} {", "%s %(x)s", "}{"])
def test_the_name_of_a_run_is_no_format(name):
    assert literal(name).format(token="x") == name
