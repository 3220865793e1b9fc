"""Run a shipped network over an image in one of several ways, timed inside its process after a warm-up.

The comparisons with other libraries start this. All sides exclude the start of Python and the libraries, and
the loading of weights; they include the reading of the file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import load_config
from pipeline.models.bundle import Bundle, open_bundle
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network
from pipeline.run import Request, prepare, run_shard, stored_shard

Found = dict[str, NDArray]
"""`boxes` (N, 4) in pixels and `scores` (N,); or `classes` (H, W)."""
Way = Callable[[Path], Found]
LOWEST_SCORE = 0.05
"""The network returns no boxes below it."""


def read_input(image: Path, bundle: Bundle) -> Tensor:
    """Return the complete image as the network's input, (C, H, W)."""
    bands = bundle.card.bands
    with rasterio.open(image) as file:
        numbers = file.read([file.descriptions.index(band) + 1 for band in bands])
    return normalise(numbers.astype(np.float32) * np.float32(1e-4), (numbers != 0).all(axis=0), bundle.card)


def class_values(logits: Tensor, bundle: Bundle) -> NDArray[np.uint8]:
    """Return the legend's values (H, W) of logits (K, H, W)."""
    values = np.array([item.value for item in bundle.card.classes], np.uint8)
    return values[logits.argmax(0).numpy()]


# --- ours ---------------------------------------------------------------------------------------------


def engine_way(task: str, precision: str, roads: str | None = None, road_buffer_m: float = 30.0) -> Way:
    """Run the engine with one network, up to the shards."""
    others = "landcover" if task == "trucks" else "trucks"
    settings = (f"{others}.enabled=false", f"engine.precision={precision}", "tiling.shards=1")
    config = load_config(None, [*settings, f"trucks.road_buffer_m={road_buffer_m}"])

    def run(image: Path) -> Found:
        with TemporaryDirectory() as folder:
            job = prepare(Request(str(image), Path(folder), config, roads=Path(roads) if roads else None))
            for index in range(len(job.shards)):
                run_shard(job, index)
            shards = [stored_shard(job, index) for index in range(len(job.shards))]
        if task == "trucks":
            parts = [shard.detections for shard in shards]
            return {
                "boxes": np.concatenate([part.boxes for part in parts]),
                "scores": np.concatenate([part.scores for part in parts]),
            }
        classes = [shard.landcover for shard in shards if shard.landcover is not None]
        return {"classes": np.concatenate(classes)}

    return run


# --- peers --------------------------------------------------------------------------------------------


def sahi_way(slice_px: int, half: bool = False) -> Way:
    """Run sahi's sliced prediction in slices of `slice_px`, the network in plain torch on all cores.

    All settings are sahi's defaults (overlap 0.2; at so low a threshold suppression by IoU), except that the
    extra prediction of the complete image is off.
    """
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction

    bundle = open_bundle("trucks")
    network = bundle.load_into(build_network(bundle.card))
    network.half_precision = half  # type: ignore[assignment]

    class Shipped(DetectionModel):
        def set_model(self, model: nn.Module, **_: object) -> None:
            self.model, self.category_mapping = model, {"1": "truck"}

        def perform_inference(self, image: NDArray[np.float32]) -> None:
            with torch.inference_mode():
                self._original_predictions = self.model(torch.from_numpy(image).permute(2, 0, 1)[None])

        def _create_object_prediction_list_from_original_predictions(  # type: ignore[override]
            self, shift_amount_list: list, full_shape_list: list
        ) -> None:
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        bbox=box,
                        category_id=1,
                        category_name="truck",
                        score=score,
                        shift_amount=box_delta,
                        full_shape=shape,
                    )
                    for box, score in zip(found["boxes"].tolist(), found["scores"].tolist(), strict=True)
                ]
                for found, box_delta, shape in zip(
                    self._original_predictions, shift_amount_list, full_shape_list, strict=True
                )
            ]

    model = Shipped(model=network, device="cpu", confidence_threshold=LOWEST_SCORE)

    def run(image: Path) -> Found:
        whole = read_input(image, bundle).permute(1, 2, 0).numpy()
        result = get_sliced_prediction(
            whole, model, slice_px, slice_px, perform_standard_pred=False, verbose=0
        )
        found = result.object_prediction_list
        return {
            "boxes": np.array([item.bbox.to_xyxy() for item in found]).reshape(-1, 4),
            "scores": np.array([item.score.value for item in found]),
        }

    return run


def torchgeo_way(patch_px: int, overlap_px: int = 0) -> Way:
    """Run torchgeo's grid of patches in a plain loop; half the overlap of each patch is cut off."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    bundle = open_bundle("landcover")
    network = bundle.load_into(build_network(bundle.card))
    margin = overlap_px // 2

    def run(image: Path) -> Found:
        dataset = RasterDataset(str(image))
        sampler = GridGeoSampler(dataset, size=patch_px, stride=patch_px - overlap_px)
        loader = DataLoader(dataset, batch_size=1, sampler=sampler, collate_fn=stack_samples)
        with rasterio.open(image) as file:
            height, width, corner = file.height, file.width, file.transform
        classes = np.full((height, width), 255, np.uint8)
        for sample in loader:
            numbers = sample["image"][0].numpy()
            tensor = normalise(numbers * np.float32(1e-4), (numbers != 0).all(axis=0), bundle.card)
            with torch.inference_mode():
                patch = class_values(network(tensor[None])[0], bundle)
            ((xs, ys, _),) = sample["bounds"]
            left, top = round((xs.start - corner.c) / corner.a), round((ys.stop - corner.f) / corner.e)
            rows, cols = _given(top, patch_px, margin, height), _given(left, patch_px, margin, width)
            classes[rows, cols] = patch[_moved(rows, -top), _moved(cols, -left)]
        return {"classes": classes}

    return run


def _given(start: int, length: int, margin: int, size: int) -> slice:
    """Return the part of a patch at `start` without its margin, which stays at the border of the image."""
    end = start + length
    return slice(start + margin if start > 0 else 0, end - margin if end < size else size)


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def whole_way(task: str) -> Way:
    """Run the complete image in one forward pass of plain torch."""
    bundle = open_bundle(task)
    network = bundle.load_into(build_network(bundle.card))

    def run(image: Path) -> Found:
        with torch.inference_mode():
            (result,) = network(read_input(image, bundle)[None])
        if task == "trucks":
            return {name: result[name].numpy() for name in ("boxes", "scores")}
        return {"classes": class_values(result, bundle)}

    return run


WAYS: dict[str, Callable[..., Way]] = {
    "engine": engine_way,
    "sahi": sahi_way,
    "torchgeo": torchgeo_way,
    "whole": whole_way,
}


def main() -> None:
    """Run one way and write its result."""
    given = json.loads(sys.argv[1])
    image, warm_up, result = Path(given["image"]), Path(given["warm_up"]), Path(given["result"])
    way = WAYS[given["way"]](**given["arguments"])
    way(warm_up)
    start, cpu = time.perf_counter(), time.process_time()
    found = way(image)
    taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    np.savez(result, **found)  # type: ignore[arg-type]
    sys.stdout.write(json.dumps(taken) + "\n")


if __name__ == "__main__":
    main()
