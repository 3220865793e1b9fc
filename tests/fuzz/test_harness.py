"""The judges see what they are there for: each is shown a fault."""

from __future__ import annotations

import json
import random

import pytest
import requests

from tests.conftest import only_on
from tests.fuzz import damage, oracles
from tests.fuzz.__main__ import table
from tests.fuzz.executor import Ending
from tests.fuzz.harness import Result
from tests.fuzz.sandbox import CANARY, Sandbox, canary_server, reads_of

pytestmark = only_on("linux", why="processes that fork, and limits of memory")


def ending(status: int = 0, killed_for: str | None = None, left_behind: tuple[str, ...] = ()) -> Ending:
    return Ending(status, 1.0, 1.0, 500.0, killed_for, left_behind)


@pytest.fixture
def box(tmp_path) -> Sandbox:
    return Sandbox.create(tmp_path / "trials" / "now")


@pytest.mark.parametrize(
    "said",
    [
        "Traceback (most recent call last):\n",
        "error: unexpected KeyError: 'x'\n",
        "x.py:5: RuntimeWarning: divide by zero\n",
        "Warning 1: TIFFReadDirectory: unknown tag\n",
        "ERROR 4: no such file\n",
        "Exception ignored in: <function f>\n",
        "error: name \x1b[31m\n",
    ],
)
def test_what_a_terminal_must_not_show(said):
    assert [*oracles.noise("", said)]
    assert [*oracles.noise(said, "")]


def test_a_clear_error_is_no_noise():
    said = "warning: 3 labels were left out\nerror: x.tif is not a scene. Expected a GeoTIFF.\n"
    assert not [*oracles.noise("layers  out/x\n", said)]
    assert not [*oracles.bad_ending(ending(1), said, stops_at_error=True)]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (ending(-11), ""),
        (ending(70), ""),
        (ending(1), ""),
        (ending(1), "error: a\nerror: b\n"),
        (ending(-9, killed_for="120 s"), ""),
        (ending(0, left_behind=("prefect server",)), ""),
    ],
)
def test_bad_endings(end, said):
    assert [*oracles.bad_ending(end, said, stops_at_error=True)]


def test_what_happens_outside_of_out(box):
    before = box.snapshot()
    (box.out / "free.txt").touch()
    assert not [*oracles.changes(before, box.snapshot())]
    (box.work / "made.txt").touch()
    (box.beside / "secret.txt").unlink()
    (box.beside / "secret.csv").write_text("other")
    (box.fence.parent / "further").touch()
    assert len([*oracles.changes(before, box.snapshot())]) == 4


def test_text_of_other_files_in_outputs(box):
    (box.out / "a").mkdir()
    (box.out / "a" / "trucks.gpkg").write_bytes(b"\x00" + CANARY.encode() + b"\x00")
    assert [*oracles.leaks(box.out, [])] == ["canary in a/trucks.gpkg"]
    assert [*oracles.leaks(box.work, ["", f"password {CANARY}"])]


def test_reads_of_other_files(box):
    with reads_of(box.beside) as none:
        [*box.beside.iterdir()]
    with reads_of(box.beside) as one:
        (box.beside / "secret.txt").read_text()
    assert (none, one) == (set(), {"secret.txt"})


def test_requests_of_a_server():
    with canary_server() as server:
        assert CANARY in requests.get(f"{server.url}/secret.geojson", timeout=10).text
        assert server.asked == ["GET /secret.geojson"]


def test_files_that_are_left(box):
    (box.out / "scene" / ".shards").mkdir(parents=True)
    (box.out / "scene" / ".shards" / "a.npz").touch()
    assert not [*oracles.half_written(box.out, box.tmp, set())]
    (box.out / "scene" / ".trucks.host-5.part.gpkg").touch()
    (box.out / "scene" / ".shards" / ".a.host-5.part.npz").touch()
    (box.tmp / "tmpabc").touch()
    assert len([*oracles.half_written(box.out, box.tmp, set())]) == 3


def test_wrong_layers():
    right = [{"trucks": "a", "landcover": "b"}]
    assert not [*oracles.wrong_layers(right, right, ())]
    assert not [*oracles.wrong_layers([{"trucks": "x", "landcover": "b"}], right, {"trucks"})]
    assert [*oracles.wrong_layers([{"trucks": "x", "landcover": "b"}], right, {"landcover"})]


def test_fingerprints_see_places_and_not_names(box):
    def trucks(name: str, longitude: float) -> None:
        folder = box.out / "scene"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text("{}")
        place = {"type": "Point", "coordinates": [longitude, 50]}
        feature = {"geometry": place, "properties": {"scene_id": name, "score": 0.5}}
        (folder / "trucks.geojson").write_text(json.dumps({"features": [feature]}))

    trucks("a", 10.0)
    first = oracles.fingerprints(box.out)
    trucks("b", 10.0)
    assert oracles.fingerprints(box.out) == first
    trucks("b", 10.1)
    assert oracles.fingerprints(box.out) != first


def test_a_seed_gives_the_same_damage():
    data = bytes(range(256)) * 8
    for name, change in damage.BYTES.items():
        made = [change(data, random.Random(f"{name} {seed}")) for seed in (1, 1, 2, 3, 4)]
        assert made[0] == made[1]
        assert any(other != data for other in made)


def test_the_table_counts_outcomes_by_kind():
    def result(name: str, status: int, *faults: str) -> Result:
        return Result(name, "", "", ending(status), faults, "")

    lines = table([result("a/x/1", 0), result("a/x/2", 1), result("b/y/3", 1, "broken")]).splitlines()
    assert lines[2].startswith("| a | 2 | 1 | 1 | 0 | 0 |")
    assert lines[-1].startswith("| all | 3 | 1 | 1 | 0 | 1 |")
