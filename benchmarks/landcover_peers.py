"""Compare land cover by engine, torchgeo's sampler and one pass: `python -m benchmarks.landcover_peers`."""

from __future__ import annotations

from benchmarks.peer_scene import peer_scene
from benchmarks.peers import Run, run
from benchmarks.results import save, table
from pipeline.inference.predictions import NO_CLASS

SIZE_PX = 2048


def main(size: int = SIZE_PX) -> None:
    """Measure, and write the section of RESULTS.md."""
    scene = peer_scene(size)
    patch = min(512, size // 2)
    whole = run("plain torch, the whole image at once", scene, "whole", task="landcover")
    others = [
        run(f"torchgeo, patches of {patch}", scene, "torchgeo", patch_px=patch),
        run(f"torchgeo, patches of {patch}, overlap 64", scene, "torchgeo", patch_px=patch, overlap_px=64),
        run("engine, float32", scene, "engine", task="landcover", precision="float32"),
        run("engine, precision auto", scene, "engine", task="landcover", precision="auto"),
    ]

    def differing(other: Run) -> int:
        classes = other.found["classes"]  # the engine gives clouds none
        return int(((classes != whole.found["classes"]) & (classes != NO_CLASS)).sum())

    rows = [whole.row()] + [
        other.row(
            **{
                "pixels that differ from the complete image": f"{differing(other):,}",
                "share": f"{differing(other) / size**2:.3%}",
            }
        )
        for other in others
    ]
    lines = [
        f"The shipped land-cover network on one tiled GeoTIFF of {size} x {size} px and ten bands, from the "
        "file to class values in memory (the engine also stores its shard). Plain torch has two threads, "
        "after a warm-up. torchgeo: `RasterDataset`, `GridGeoSampler`, `DataLoader` with one patch per "
        "batch in the same process, float32. Half the overlap of patches is cut off on each side.",
        "",
        *table(rows),
    ]
    figures = {item.name: {**item.figures(), "differing": differing(item)} for item in (whole, *others)}
    save("landcover_peers", "Land cover: comparison with torchgeo", lines, figures)


if __name__ == "__main__":
    main()
