"""Detector of heavy and light vehicles: centres as proposals, and a deeper network on a window of each.

Zhou, Koltun and Krähenbühl, "Probabilistic two-stage detection", 2021 (arXiv:2103.07461), made small. The
first stage is cheap, since it slides over every pixel: a few convolutions at half resolution give each 10 m
pixel the log-odds that a vehicle is centred there ("Objects as Points", arXiv:1904.07850). The second stage
is deep, since it is applied to peaks only: it takes a window of the image and of the features around the
peak, and tells heavy vehicles, light ones and ground apart.

Every step is local, so that tiles are exact: a peak is the maximum of its 3 x 3 pixels, a window has a fixed
size in whole pixels, and all peaks above a probability are proposals.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image

from pipeline.models.boxes import HEAVY, centred_in, suppress
from pipeline.models.family import Family

GROUND = 0
"""Class of the second stage that is no vehicle; the others are the labels of targets."""
WINDOW_REACH_PX = 6
"""Pixels from a peak to the border of its window."""
MIN_VEHICLE_SCORE = 0.05
_MOST_SHIFT_PX = 2.0
"""Most pixels from a peak to the centre of its box."""
_TYPICAL_SIDE_PX = 4.0
_MOST_LOG_SCALE = 1.2
_NMS_IOU = 0.35
_LOGIT_STEP = 1 / 64
"""Log-odds are compared in such steps: of pixels that differ by rounding noise, each is a peak."""
_MIDDLE = 4
"""Index of the middle of 3 x 3 pixels."""
_WINDOWS_AT_ONCE = 256

_AROUND_PX = 7
_SPREAD_PX = 0.7
"""Deviation of the Gaussian around a centre in which errors of the first stage count less."""
_MATCHED_PX = 2.0
_MARGIN_PX = 1.0
_WINDOWS_PER_IMAGE = 16


def _convolution(inputs: int, outputs: int, kernel: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class CentreStage(nn.Module):
    """First stage: (N, C, H, W) normalised reflectance, H and W even, to features and log-odds of centres.

    It sees the bands, and their contrast with the mean of `_AROUND_PX`, which is where vehicles show first.
    All convolutions run at half resolution; the last one gives each pixel of 2 x 2 its own channels.
    """

    def __init__(self, bands: int, width: int, features: int) -> None:
        super().__init__()
        self.around = nn.AvgPool2d(_AROUND_PX, stride=1, padding=_AROUND_PX // 2)
        self.stem = _convolution(2 * bands, width, 4, stride=2, padding=1)
        self.fine = _convolution(width, width, 3, padding=1)
        self.wide = _convolution(width, width, 3, padding=2, dilation=2)
        self.merge = _convolution(width, width, 3, padding=1)
        self.features = nn.Conv2d(width, 4 * features, 1)
        self.objectness = nn.Conv2d(width, 4, 1)
        # A hundredth of the pixels are centres at first, as in the paper.
        nn.init.constant_(self.objectness.bias, -4.6)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, F, H, W) and log-odds (N, 1, H, W)."""
        half = self.stem(torch.cat([images - self.around(images), images], dim=1))
        half = half + self.wide(self.fine(half))
        half = half + self.merge(half)
        return (
            functional.pixel_shuffle(functional.relu(self.features(half)), 2),
            functional.pixel_shuffle(self.objectness(half), 2),
        )


class WindowStage(nn.Module):
    """Second stage: windows (K, C + F, S, S) and their log-odds (K,) to classes and boxes.

    It sees the bands also as their contrast with the border of the window, and the sum of that: an area times
    reflectance, which is larger for a lorry than for a car.
    """

    def __init__(self, bands: int, features: int, widths: list[int], hidden: int) -> None:
        super().__init__()
        self.bands = bands
        first, *others = widths
        layers = [_convolution(2 * bands + features, first, 3)]
        layers += [_convolution(*pair, 3) for pair in zip(widths, others, strict=False)]
        self.convolutions = nn.Sequential(*layers)
        side = 2 * WINDOW_REACH_PX + 1 - 2 * len(widths)
        if side < 1:
            raise ValueError(f"widths has at most {WINDOW_REACH_PX} convolutions. Received: {len(widths)}")
        self.sums = nn.BatchNorm1d(bands + 1)
        self.hidden = nn.Linear(widths[-1] * side**2 + bands + 1, hidden)
        self.classes = nn.Linear(hidden, 3)
        self.place = nn.Linear(hidden, 4)

    def forward(self, windows: Tensor, objectness: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds of the classes (K, 3), and (K, 4): shift of the centre, log of width and height."""
        image = windows[:, : self.bands]
        border = torch.cat(
            [image[..., 0, :], image[..., -1, :], image[..., 1:-1, 0], image[..., 1:-1, -1]], dim=-1
        )
        contrast = image - border.mean(dim=-1)[..., None, None]
        sums = self.sums(torch.cat([contrast.sum(dim=(2, 3)), objectness[:, None]], dim=1))
        seen = self.convolutions(torch.cat([contrast, windows], dim=1)).flatten(1)
        hidden = functional.relu(self.hidden(torch.cat([seen, sums], dim=1)))
        return self.classes(hidden), self.place(hidden)


class TwoStageDetector(nn.Module):
    """Both stages on normalised reflectance; boxes in 10 m pixels of the input.

    Training: `detector(images, targets)` returns the losses. A target has `boxes` (N, 4), `labels` (N,), 1
    for heavy and 2 for light vehicles, and optionally `ignored` (M, 4), areas excluded from training.
    Inference: `detector(images)` returns for each image `boxes` (K, 4), `scores` (K,) of heavy vehicles and
    `vehicle_scores` (K,) of any. Images are (C, H, W), all of one size; H and W are even.

    Peaks of at least `min_objectness` are proposals. The focal loss lifts small probabilities: where a
    vehicle is centred on one pixel in a hundred, it is least at 0.15 (the cube root of a third of that).
    """

    def __init__(
        self,
        bands: int,
        width: int,
        features: int,
        window_widths: list[int],
        hidden: int,
        min_objectness: float,
    ) -> None:
        super().__init__()
        if not 0 < min_objectness < 1:
            raise ValueError(f"min_objectness is between 0 and 1. Received: {min_objectness}")
        self.bands, self.min_objectness = bands, min_objectness
        self.centres = CentreStage(bands, width, features)
        self.windows = WindowStage(bands, features, window_widths, hidden)
        self.half_precision = False

    def forward(self, images: Tensor | list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses or detections, see the class; `half_precision` applies to convolutions only.

        They then run in bfloat16, the operations on boxes in float32. At inference the second stage is
        float32.
        """
        batch = images if isinstance(images, Tensor) else torch.stack(images)
        with torch.autocast(batch.device.type, torch.bfloat16) if self.half_precision else nullcontext():
            if not self.training:
                maps = self.dense(batch)
            elif targets is None:
                raise ValueError(
                    "Training needs targets: one dictionary of boxes and labels for each image. "
                    "Received: None"
                )
            else:
                return self._losses(self.dense(batch), targets)
        return self.detections(*maps)

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return bands and features (N, H, W, C + F), and log-odds of centres (N, H, W, 1)."""
        features, objectness = self.centres(images)
        seen = torch.cat([images.to(features.dtype), features], dim=1)
        return seen.permute(0, 2, 3, 1), objectness.permute(0, 2, 3, 1)

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return the detections of each image from `dense`'s maps, without suppressed ones."""
        seen, objectness = maps
        logits = objectness[..., 0].float()
        proposed = self.proposals(*maps, where=where)
        at = [pixels[:, :2].flip(1) for pixels in proposed]
        return [self._detections_of(*one) for one in zip(seen, logits, at, strict=True)]

    def proposals(self, *maps: Tensor, where: Tensor | None = None) -> list[Tensor]:
        """Return the boxes (K, 4) of the pixels of each image in the middle of the second stage's windows.

        They are peaks, in the pixels of `where` (N, H, W) only if it is given.
        """
        found = peaks(maps[1][..., 0].float(), self.min_objectness)
        corners = [torch.nonzero(one).flip(1) for one in (found if where is None else found & where)]
        return [torch.cat([corner, corner + 1], dim=1) for corner in corners]

    def _detections_of(self, seen: Tensor, logits: Tensor, at: Tensor) -> dict[str, Tensor]:
        """Return the detections of an image: maps (H, W, C + F) and (H, W), peaks (K, 2) as row, column."""
        parts = (at,) if torch.onnx.is_in_onnx_export() else at.split(_WINDOWS_AT_ONCE)
        probabilities, boxes = map(
            torch.cat, zip(*(self._classified(seen, logits, part) for part in parts), strict=True)
        )
        # Rounded, the root of a square may be below it.
        vehicle = probabilities[:, 1:].norm(dim=1).maximum(probabilities[:, HEAVY])
        found = vehicle >= MIN_VEHICLE_SCORE
        vehicle, heavy, boxes = vehicle[found], probabilities[found, HEAVY], boxes[found]
        boxes = clip_boxes_to_image(boxes, (int(logits.shape[0]), int(logits.shape[1])))
        best = suppress(boxes, vehicle, _NMS_IOU)
        return {"boxes": boxes[best], "scores": heavy[best], "vehicle_scores": vehicle[best]}

    def _classified(self, seen: Tensor, logits: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of classes (K, 3) and boxes (K, 4) of some peaks, all at once."""
        objectness = logits[at[:, 0], at[:, 1]]
        classes, place = self.windows(cut_windows(seen[None], functional.pad(at, (1, 0))), objectness)
        return _joint(classes.softmax(dim=1), objectness), _boxes(at, place)

    def _losses(self, maps: tuple[Tensor, ...], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        seen, objectness = maps
        logits = objectness[..., 0].float()
        height, width = (int(side) for side in logits.shape[1:])
        spread, centre, taught = (
            torch.stack(parts)
            for parts in zip(*[_centre_target(one, height, width) for one in targets], strict=True)
        )
        losses = {"centres": centre_loss(logits, spread, centre, taught)}
        at, label, place = _sampled_windows(logits.detach(), centre, taught, targets)
        if len(at) < 2:  # batch norm needs two
            nothing = logits.sum() * 0
            return {**losses, "classes": nothing, "boxes": nothing}
        classes, found = self.windows(cut_windows(seen, at), logits.detach()[tuple(at.T)])
        vehicle = label != GROUND
        misplaced = functional.smooth_l1_loss(
            found.float()[vehicle], place[vehicle], beta=0.1, reduction="sum"
        )
        return {
            **losses,
            "classes": functional.cross_entropy(classes.float(), label),
            "boxes": misplaced / max(1, int(vehicle.sum())),
        }


def peaks(logits: Tensor, least: float) -> Tensor:
    """Return a mask (N, H, W) of the pixels with a probability of at least `least` that no neighbour exceeds.

    `logits` (N, H, W) are rounded to `_LOGIT_STEP` first.
    """
    found = logits >= torch.logit(torch.tensor(least))
    image, row, col = torch.nonzero(found, as_tuple=True)  # few; a maximum of all pixels takes long
    steps, (height, width) = torch.arange(-1, 2, device=logits.device), logits.shape[1:]
    rows = (row[:, None] + steps).clamp(0, height - 1)[:, :, None]
    cols = (col[:, None] + steps).clamp(0, width - 1)[:, None]
    around = torch.round(logits[image[:, None, None], rows, cols] / _LOGIT_STEP).flatten(1)
    found[image, row, col] = around[:, _MIDDLE] == around.amax(1)
    return found


def cut_windows(seen: Tensor, at: Tensor) -> Tensor:
    """Return the windows (K, C, S, S) of maps (N, H, W, C) around pixels (K, 3): image, row, column.

    Beyond the border of an image they are 0, like its data there.
    """
    count, height, width, channels = seen.shape
    steps = torch.arange(-WINDOW_REACH_PX, WINDOW_REACH_PX + 1, device=at.device)
    rows, cols = at[:, 1, None] + steps, at[:, 2, None] + steps
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((cols >= 0) & (cols < width))[:, None]
    index = rows.clamp(0, height - 1)[:, :, None] * width + cols.clamp(0, width - 1)[:, None]
    index = index + at[:, 0, None, None] * (height * width)
    if seen.stride(3) == 1:  # a pixel's channels are beside each other in memory, and come at once
        pixels = seen.reshape(count * height * width, channels)[index.flatten()]
        windows = pixels.view(*index.shape, channels).permute(0, 3, 1, 2)
    else:
        planes = seen.permute(3, 0, 1, 2).reshape(channels, -1)
        windows = planes.index_select(1, index.flatten()).view(channels, *index.shape).transpose(0, 1)
    windows = (windows * inside[:, None]).float()
    return windows.contiguous(memory_format=torch.channels_last)  # convolved a fifth faster


def _joint(classes: Tensor, objectness: Tensor) -> Tensor:
    """Return the scores of classes (K, 3) by both stages: the root of the product of their probabilities.

    The second stage learns from the most vehicle-like ground, so it does not replace the first one. The focal
    loss of the first is least where the share of centres is three times the cube of its probability.
    """
    share = (3 * objectness.sigmoid() ** 3).clamp(max=1)
    return (classes * share[:, None]).sqrt()


def _boxes(at: Tensor, place: Tensor) -> Tensor:
    """Return the boxes (K, 4) that the second stage places around peaks (K, 2), row and column."""
    place = place.float()
    centre = at.flip(1) + 0.5 + place[:, :2].clamp(-_MOST_SHIFT_PX, _MOST_SHIFT_PX)
    half = _TYPICAL_SIDE_PX / 2 * place[:, 2:].clamp(-_MOST_LOG_SCALE, _MOST_LOG_SCALE).exp()
    return torch.cat([centre - half, centre + half], dim=1)


def _centre_target(target: dict[str, Tensor], height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (H, W) of an image: Gaussians around centres, the pixels that hold one, and what is learned."""
    boxes = target["boxes"]
    ys, xs = torch.meshgrid(
        torch.arange(height, device=boxes.device) + 0.5,
        torch.arange(width, device=boxes.device) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([xs, ys, xs, ys], dim=-1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance2 = ((pixels[..., None, :2] - middle) ** 2).sum(dim=-1)
    spread = (-distance2 / (2 * _SPREAD_PX**2)).exp().sum(dim=-1).clamp(max=1)
    held = middle.floor().long()
    inside = ((held >= 0) & (held < torch.tensor([width, height], device=held.device))).all(dim=1)
    centre = torch.zeros((height, width), dtype=torch.bool, device=boxes.device)
    centre[held[inside, 1], held[inside, 0]] = True
    ignored = target.get("ignored", boxes[:0])
    taught = ~centred_in(pixels.view(-1, 4), ignored, _MARGIN_PX).view(height, width)
    return spread, centre, taught | centre


def centre_loss(logits: Tensor, spread: Tensor, centre: Tensor, taught: Tensor) -> Tensor:
    """Return the focal loss of "Objects as Points" for each vehicle, all (N, H, W)."""
    probability = logits.sigmoid()
    hit = (1 - probability) ** 2 * functional.logsigmoid(logits)
    miss = (1 - spread) ** 4 * probability**2 * functional.logsigmoid(-logits)
    return -torch.where(centre, hit, miss)[taught].sum() / max(1, int(centre.sum()))


def _sampled_windows(
    logits: Tensor, centre: Tensor, taught: Tensor, targets: list[dict[str, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose windows to learn from: pixels (K, 3), their labels (K,) and places (K, 4).

    Half of them at most are vehicles: peaks within `_MATCHED_PX` of one, and the pixels that hold their
    centres. Of ground, three quarters are the most vehicle-like peaks of the batch, the rest are random
    peaks.
    """
    at = torch.nonzero((peaks(logits, 1e-4) | centre) & taught)
    label, place = _matched(at, targets)
    most = _WINDOWS_PER_IMAGE * len(targets)
    vehicles = torch.nonzero(label != GROUND)[:, 0]
    vehicles = vehicles[torch.randperm(len(vehicles), device=at.device)[: most // 2]]
    ground = torch.nonzero(label == GROUND)[:, 0]
    order = logits[tuple(at[ground].T)].argsort(descending=True)
    hard = most * 3 // 8
    others = order[hard:]
    others = others[torch.randperm(len(others), device=at.device)[: most // 8]]
    chosen = torch.cat([vehicles, ground[order[:hard]], ground[others]])
    return at[chosen], label[chosen], place[chosen]


def _matched(at: Tensor, targets: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return label (K,) and place (K, 4) of the vehicle nearest to each of the pixels (K, 3)."""
    label = at.new_zeros(len(at))
    place = torch.zeros((len(at), 4), device=at.device)
    for index, target in enumerate(targets):
        mine = torch.nonzero(at[:, 0] == index)[:, 0]
        boxes = target["boxes"]
        if not len(mine) or not len(boxes):
            continue
        shift = (boxes[:, :2] + boxes[:, 2:]) / 2 - (at[mine, 1:].flip(1) + 0.5)[:, None]
        apart, nearest = shift.norm(dim=2).min(dim=1)
        near = apart <= _MATCHED_PX
        mine, nearest, shift = mine[near], nearest[near], shift[near, nearest[near]]
        label[mine] = target["labels"][nearest]
        sides = (boxes[nearest, 2:] - boxes[nearest, :2]).clamp(min=1)
        place[mine] = torch.cat([shift, (sides / _TYPICAL_SIDE_PX).log()], dim=1)
    return label, place


FAMILY = Family(
    "centernet2",
    "detection",
    TwoStageDetector,
    {"width": 48, "features": 12, "window_widths": [48, 64, 64, 64], "hidden": 128, "min_objectness": 0.15},
    scores_vehicles=True,
    exports_boxes=True,
)
