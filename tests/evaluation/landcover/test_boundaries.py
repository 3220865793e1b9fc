import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from pipeline.evaluation.landcover.boundaries import (
    BoundaryScores,
    boundary_metrics,
    boundary_pixels,
    halo_px,
)

NONE = 3
MAPS = arrays(np.uint8, (2, 13, 11), elements=st.sampled_from([0, 0, 0, 1, 2, NONE]))


def by_distance(labelled, mapped, tolerance_px):
    """The same from distances, class by class and pixel by pixel."""
    both = (labelled < NONE) & (mapped < NONE)
    found = np.zeros(labelled.shape, np.uint8)
    edges = []
    for kind in (mapped, labelled):
        edge = np.zeros(kind.shape, bool)
        for row, col in np.ndindex(kind.shape):
            for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                if 0 <= r < kind.shape[0] and 0 <= c < kind.shape[1] and both[row, col] and both[r, c]:
                    edge[row, col] |= kind[row, col] != kind[r, c]
        edges.append(edge)
    for value in range(NONE):
        own, other = edges[0] & (mapped == value), edges[1] & (labelled == value)
        for here, there, bit in ((own, other, 1), (other, own, 4)):
            found[here] |= bit
            if there.any():
                found[here & (distance_transform_edt(~there) <= tolerance_px)] |= 2 * bit
    return found


@settings(max_examples=40)
@given(MAPS, st.sampled_from([0.0, 1.0, 1.5, 2.0, 2.9, 5.0, 40.0]))
def test_equals_distances(maps, tolerance_px):
    assert (boundary_pixels(*maps, NONE, tolerance_px) == by_distance(*maps, tolerance_px)).all()


@settings(max_examples=40)
@given(MAPS, st.sampled_from([1.0, 2.0, 3.7]), st.integers(0, 12))
def test_a_window_needs_its_halo_and_no_more(maps, tolerance_px, row):
    halo = halo_px(tolerance_px)
    top = max(0, row - halo)
    window = maps[:, top : row + 1 + halo]
    whole = boundary_pixels(*maps, NONE, tolerance_px)
    assert (boundary_pixels(*window, NONE, tolerance_px)[row - top] == whole[row]).all()


def test_an_edge_one_pixel_off():
    """Two classes side by side, the edge mapped a pixel too far to the right."""
    labelled = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0).astype(np.uint8)
    mapped = np.repeat([[0, 0, 0, 0, 1, 1]], 4, axis=0).astype(np.uint8)
    strict, tolerant = (boundary_pixels(labelled, mapped, 2, tolerance) for tolerance in (0, 1))
    assert strict[0].tolist() == [0, 0, 4, 1 | 4, 1, 0]
    assert tolerant[0].tolist() == [0, 0, 4 | 8, 1 | 2 | 4 | 8, 1 | 2, 0]


def test_what_is_not_known_ends_nowhere():
    labelled = np.array([[0, 0, NONE, 1, 1]], np.uint8)
    assert not boundary_pixels(labelled, labelled, 2, 2).any()


def test_more_classes_than_bits_of_two_bytes():
    labelled = np.array([[20, 20, 30, 30]], np.uint8)
    assert boundary_pixels(labelled, labelled, 40, 1)[0].tolist() == [0, 15, 15, 0]
    with pytest.raises(ValueError, match="At most 64 classes"):
        boundary_pixels(labelled, labelled, 65, 1)


def test_precision_recall_and_f1():
    counts = np.array([[10, 5, 8, 6], [0, 0, 4, 0], [0, 0, 0, 0], [3, 0, 3, 0]])
    precision, recall, f1 = boundary_metrics(counts).T
    assert precision.tolist() == pytest.approx([0.5, np.nan, np.nan, 0], nan_ok=True)
    assert recall.tolist() == pytest.approx([0.75, 0, np.nan, 0], nan_ok=True)
    assert f1.tolist() == pytest.approx([0.6, 0, np.nan, 0], nan_ok=True)
    scores = BoundaryScores(counts[None], 20.0)
    assert scores.f1 == pytest.approx(f1, nan_ok=True)
    assert scores.overall_f1 == pytest.approx(2 * (5 / 13) * (6 / 15) / (5 / 13 + 6 / 15))
