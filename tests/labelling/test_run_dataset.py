import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipeline.errors import RunsError
from tests.labelling.runs import SHAPE, write_run

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("torchgeo", reason="needs TorchGeo, of the extra train")

from torchgeo.datasets import stack_samples  # noqa: E402
from torchgeo.samplers import RandomGeoSampler  # noqa: E402

from pipeline.labelling.run_dataset import UNLABELLED, RunDataset  # noqa: E402

CLASSES = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint8).reshape(SHAPE) % 8


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "runs" / "scene")
    with rasterio.open(
        folder / "landcover.tif",
        "w",
        driver="GTiff",
        height=SHAPE[0],
        width=SHAPE[1],
        count=1,
        dtype="uint8",
        crs="EPSG:32632",
        transform=from_origin(600000, 5800000, 10, 10),
    ) as target:
        target.write(CLASSES, 1)
    return folder


def test_a_query_is_its_pixels_classes_and_boxes(run):
    dataset = RunDataset(run.parent, ("B02", "B08"))
    sample = dataset[slice(600000, 600400), slice(5799600, 5800000)]
    with rasterio.open(run.parent / "scene.tif") as source:
        numbers = source.read([1, 4], window=((0, 40), (0, 40)))
    band = dataset.runs[0].scene.bands["B02"]
    assert sample["image"].numpy() == pytest.approx(numbers * band.scale + band.offset, abs=1e-6)
    assert (sample["mask"].numpy() == CLASSES[:40, :40]).all()
    assert sample["bbox_xyxy"].numpy() == pytest.approx(
        np.array([[10.25, 12.5, 14.75, 15.0], [30.0, 30.5, 33.25, 34.0]]), abs=1e-4
    )
    assert sample["label"].tolist() == [1, 1]


def test_a_run_that_is_named_twice_is_read_once(run):
    assert len(RunDataset([run.parent, run]).runs) == 1


def test_beyond_the_scene_there_is_nothing(run):
    sample = RunDataset(run)[slice(600000 - 100, 600100), slice(5800000 - 100, 5800000 + 100)]
    assert sample["image"].shape == (3, 20, 20)
    assert not sample["image"][:, :10].any()
    assert (sample["mask"][:, :10] == UNLABELLED).all()
    assert (sample["mask"][10:, 10:].numpy() == CLASSES[:10, :10]).all()


def test_torchgeos_sampler_draws_chips(run):
    dataset = RunDataset(run)
    sampler = RandomGeoSampler(dataset, size=32, length=6, generator=torch.Generator().manual_seed(0))
    samples = [dataset[query] for query in sampler]
    assert {tuple(sample["image"].shape) for sample in samples} == {(3, 32, 32)}
    assert {tuple(sample["mask"].shape) for sample in samples} == {(32, 32)}
    assert all(sample["mask"].max() < 8 for sample in samples)
    for sample in samples:
        sample.pop("crs"), sample.pop("bounds"), sample.pop("bbox_xyxy"), sample.pop("label")
    assert stack_samples(samples)["image"].shape == (6, 3, 32, 32)


def test_runs_that_do_not_fit_are_an_error(run, tmp_path):
    with pytest.raises(IndexError, match="No run at"):
        RunDataset(run)[slice(0, 10), slice(0, 10)]
    (run / "landcover.tif").rename(tmp_path / "landcover.tif")
    with pytest.raises(RunsError, match=r"has no landcover.tif; run it with a land-cover model"):
        RunDataset(run)
