"""Export of finished runs as images with boxes, for labelling tools and trainings of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from affine import Affine
from PIL import Image

from pipeline.errors import OutputError, RunsError
from pipeline.input_warnings import warn
from pipeline.labelling.images import IMAGES, SIDECAR, Box, ImagePlace, write_sidecar
from pipeline.labelling.label_formats import format_named
from pipeline.labelling.runs import RunBoxes, read_run_boxes
from pipeline.report.chips import BRIGHTEST
from pipeline.report.pictures import TRUE_COLOUR, true_colour
from pipeline.scenes.raster.patches import patches
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import make_folder, replacing_folder
from pipeline.storage.out_folder import check_out
from pipeline.traffic.runs import find_records

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cut:
    """Size, margin and zoom of the images that a scene is cut into."""

    size_px: int = 256
    """Side of an image, in pixels of the scene."""
    margin_px: int = 16
    """Strip at each edge that the neighbouring image has in its core."""
    zoom: int = 1
    """Pixels of an image for each of the scene."""
    without_boxes: bool = False
    """True to write images without a box, too."""

    def __post_init__(self) -> None:
        """Check the numbers; ValueError if no core is left."""
        if self.margin_px < 0 or self.zoom < 1 or self.size_px <= 2 * self.margin_px:
            raise ValueError(
                f"An image of {self.size_px} px with a margin of {self.margin_px} px has no core; expected "
                "a size of more than twice the margin."
            )

    @property
    def step_px(self) -> int:
        """Return the side of a core, in pixels of the scene."""
        return self.size_px - 2 * self.margin_px


@dataclass
class Exported:
    """Numbers of an export."""

    scenes: int = 0
    images: int = 0
    boxes: int = 0
    annotations: int = 0
    """Boxes on images: one that is in a margin, too, is on several."""
    padded_images: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Return the numbers as lines for people."""
        lines = [
            f"{self.boxes} boxes on {self.images} images of {self.scenes} scenes "
            f"({self.annotations} annotations; those in margins are on several images)"
        ]
        if self.padded_images:
            lines.append(f"{self.padded_images} images reach beyond their scene and are filled with black")
        return lines + [f"{count} {reason}" for reason, count in sorted(self.left_out.items()) if count]


def export_labels(
    places: Sequence[Path],
    out: Path,
    format_name: str,
    cut: Cut,
    *,
    cases: bool = False,
    source: str | None = None,
    bands: Sequence[str] | None = None,
    say: Say = lambda _: None,
) -> Exported:
    """Write images and boxes of the runs in folders into the new folder `out`, in one format.

    `say` is called with a line of progress. The folder appears when it is complete. Memory: the images of a
    row of the scene's blocks, and all boxes.

    Raises
    ------
    RunsError
        If a folder has no finished run, two are of one scene, or `source` is given for several.
    OutputError
        If `out` is not empty, or can't be written.
    TruckscapeError
        As `read_run_boxes` and `open_scene`; CorruptImageError if pixels can't be decoded.
    """
    form = format_named(format_name)
    records = find_records(*places)
    if source is not None and len(records) > 1:
        raise RunsError(f"--scene is for one run; {len(records)} were found.")
    check_out(out)
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose a new --out, so that no corrected labels are lost.")
    make_folder(out.parent)
    done, images, boxes = Exported(), list[ImagePlace](), list[Box]()
    scenes = set[str]()
    with replacing_folder(out) as part:
        (part / IMAGES).mkdir()
        for number, record in enumerate(records, 1):
            say(f"{number} of {len(records)}: {record.parent}")
            run = read_run_boxes(record, cases, source, bands)
            if run.scene.id in scenes:
                raise RunsError(f"{record.parent} is another run of {run.scene.id}; export one of them.")
            scenes.add(run.scene.id)
            written, labelled = _export_scene(run, part / IMAGES, cut, done, say)
            images += written
            boxes += labelled
        form.write(part, out.resolve().name, images, boxes)
        write_sidecar(part / SIDECAR, images)
    return done


def _export_scene(
    run: RunBoxes, folder: Path, cut: Cut, done: Exported, say: Say
) -> tuple[list[ImagePlace], list[Box]]:
    """Write the images of a scene; return those written, and the boxes on them."""
    places, boxes = plan_images(run, cut, done)
    written: dict[str, ImagePlace] = {}
    wanted = {box.image for box in boxes}
    for place, picture, has_data in pictures(run.scene, places, cut):
        if not has_data and place.name not in wanted:
            done.left_out["images without data and without boxes are not written"] += 1
            continue
        picture.save(folder / place.name, format="PNG")
        written[place.name] = place
        if len(written) % 100 == 0:
            say(f"{run.scene.id}: {len(written)} of {len(places)} images")
    kept = [place for place in places if place.name in written]
    done.scenes += 1
    done.images += len(kept)
    done.padded_images += sum(place.padded_px > 0 for place in kept)
    done.annotations += len(boxes)
    return kept, boxes


def plan_images(run: RunBoxes, cut: Cut, done: Exported) -> tuple[list[ImagePlace], list[Box]]:
    """Return the images of a scene by row and column, and the boxes on each, without reading a pixel.

    A box is on each image that has its centre, cut at the image's edge. The image that has the centre in its
    core has all of it, unless it is larger than the margin; such boxes are counted.
    """
    rows, cols = run.scene.shape
    step, boxes = cut.step_px, run.boxes
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.asarray(((centre >= 0) & (centre < [cols, rows])).all(axis=1))
    done.left_out["boxes have their centre outside of the scene"] += int((~inside).sum())
    done.boxes += int(inside.sum())
    images, found = list[ImagePlace](), list[Box]()
    by_row = np.argsort(centre[:, 1], kind="stable")
    by_row = by_row[inside[by_row]]
    ordered = centre[by_row, 1]
    for row in range(0, rows, step):
        first, last = np.searchsorted(ordered, [row - cut.margin_px, row - cut.margin_px + cut.size_px])
        near = np.sort(by_row[first:last])
        for col in range(0, cols, step):
            left = col - cut.margin_px
            on_it = near[(centre[near, 0] >= left) & (centre[near, 0] < left + cut.size_px)]
            if not (cut.without_boxes or len(on_it)):
                continue
            image = _place(run.scene, row, col, cut)
            images.append(image)
            for index in on_it.tolist():
                box, is_cut = _on_image(run, index, image, (left, row - cut.margin_px), cut)
                found.append(box)
                done.left_out["boxes are larger than the margin and cut at the edge of their image"] += (
                    is_cut and image.has_in_core(*((centre[index] - [left, row - cut.margin_px]) * cut.zoom))
                )
    if run.scene.shape[0] < cut.size_px or run.scene.shape[1] < cut.size_px:
        warn(f"{run.scene.id} has {cols} x {rows} px, less than an image of {cut.size_px} px.")
    return images, found


def _place(scene: Scene, row: int, col: int, cut: Cut) -> ImagePlace:
    """Return the image whose core begins at a pixel of the scene."""
    rows, cols = scene.shape
    left, top, size = col - cut.margin_px, row - cut.margin_px, cut.size_px
    affine = Affine(*scene.grid.affine[:6])
    there = (min(cols, left + size) - max(0, left)) * (min(rows, top + size) - max(0, top))
    core = (
        cut.margin_px,
        cut.margin_px,
        cut.margin_px + min(cut.step_px, cols - col),
        cut.margin_px + min(cut.step_px, rows - row),
    )
    return ImagePlace(
        name=f"{scene.id}_r{row:05d}_c{col:05d}.png",
        scene_id=scene.id,
        crs=scene.crs,
        transform=affine * Affine.translation(left, top) * Affine.scale(1 / cut.zoom),
        width=size * cut.zoom,
        height=size * cut.zoom,
        core=(core[0] * cut.zoom, core[1] * cut.zoom, core[2] * cut.zoom, core[3] * cut.zoom),
        padded_px=(size * size - there) * cut.zoom**2,
    )


def _on_image(
    run: RunBoxes, index: int, image: ImagePlace, corner: tuple[int, int], cut: Cut
) -> tuple[Box, bool]:
    """Return a box in pixels of an image, and whether the image's edge cuts it."""
    own = (run.boxes[index] - [*corner, *corner]) * cut.zoom
    left, top, right, bottom = np.clip(own, 0, [image.width, image.height] * 2).tolist()
    attributes = {"id": str(index), **run.attributes[index]}
    box = Box(image.name, run.categories[index], (left, top, right, bottom), attributes)
    return box, bool((own != [left, top, right, bottom]).any())


def pictures(
    scene: Scene, places: Iterable[ImagePlace], cut: Cut
) -> Iterator[tuple[ImagePlace, Image.Image, bool]]:
    """Yield each image in true colour, 8 bits, and whether it has data, in no fixed order.

    Each is stretched by the percentiles of its pixels, as `true_colour` does; pixels without data are black.
    Each block of the scene is decoded once.

    Raises
    ------
    MissingBandError
        If the scene lacks B02, B03 or B04.
    CorruptImageError
        If a block can't be decoded.
    """
    listed = list(places)
    to_scene = ~scene.grid.affine
    corners = [to_scene * (place.transform * (0, 0)) for place in listed]
    centres = np.array(corners, np.float64).reshape(-1, 2) + cut.size_px / 2
    for patch in patches(scene, centres, cut.size_px, TRUE_COLOUR):
        place = listed[patch.index]
        picture = Image.fromarray(true_colour(patch.reflectance, patch.valid, BRIGHTEST)[..., :3])
        if cut.zoom > 1:
            picture = picture.resize((place.width, place.height), Image.Resampling.NEAREST)
        yield place, picture, bool(patch.valid.any())
