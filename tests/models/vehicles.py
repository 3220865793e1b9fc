"""Planted vehicles, and what every detector of heavy and light vehicles does with them."""

import torch

from pipeline.models.boxes import HEAVY, LIGHT

HEAVY_BOX, LIGHT_BOX = (19.0, 9.0, 25.0, 13.0), (5.0, 21.0, 9.0, 24.0)


def target(*boxes, labels=None, ignored=()) -> list[dict[str, torch.Tensor]]:
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([HEAVY] * len(boxes) if labels is None else labels, dtype=torch.int64),
            "ignored": torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        }
    ]


def planted() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Return a chip (1, 4, 32, 32) with a heavy and a light vehicle that move east, and their target."""
    torch.manual_seed(0)
    image = torch.randn(1, 4, 32, 32) * 0.05
    for (x0, y0, x1, y1), paint in ((HEAVY_BOX, 4.0), (LIGHT_BOX, 1.5)):
        rows = slice(int(y0) + 1, int(y1) - 1)
        image[:, 0, rows, int(x0) + 1 : int(x0) + 2] += paint
        image[:, 1, rows, int(x0) + 2 : int(x1) - 2] += paint
        image[:, 2, rows, int(x1) - 2 : int(x1) - 1] += paint
    return image, target(HEAVY_BOX, LIGHT_BOX, labels=[HEAVY, LIGHT])


def learn(detector, image, truth, steps: int) -> list[float]:
    """Train on one image and return the sum of the losses of each step; the detector is in `eval` after."""
    optimiser = torch.optim.Adam(detector.train().parameters(), 0.01)
    course = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = sum(detector(image, truth).values())
        loss.backward()
        optimiser.step()
        course.append(loss.item())
    detector.eval()
    return course


def both_cores(detector, halo: int, stride: int) -> list[torch.Tensor]:
    """Return boxes and scores (K, 6) centred in a core, once of the complete image and once of its tile."""
    core, corner = 32, stride * 5
    side = core + 2 * halo
    image = torch.randn(1, 4, side + 2 * corner, side + 2 * corner)
    tile = image[..., corner : corner + side, corner : corner + side]
    with torch.inference_mode():
        (complete,), (cut,) = detector.eval()(image), detector(tile)
    found = []
    for one, shift in ((complete, 0.0), (cut, float(corner))):
        boxes = one["boxes"] + shift
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - corner - halo
        inside = ((centre >= 0) & (centre < core)).all(dim=1)
        rows = torch.cat([boxes, one["scores"][:, None], one["vehicle_scores"][:, None]], dim=1)[inside]
        found.append(rows[(rows[:, 0] + 1000 * rows[:, 1]).argsort()])
    return found
