import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.gallery import blocks_of_cases, in_best_block, spread
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.conftest import write_geotiff
from tests.evaluation.trucks.test_scores import boxes


def test_examples_are_spread_over_the_scores():
    scores = np.linspace(0, 1, 101)
    assert scores[spread(scores, 5)].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_the_block_with_the_most_levels_of_score_is_taken():
    """Block 7 has the extremes, 8 has more cases and levels, 9 has one."""
    scores = np.array([0.1, 0.9, *[0.12] * 5, 0.5])
    blocks = np.array([7, 7, *[8] * 5, 9])
    assert set(blocks[in_best_block(scores, blocks)]) == {8}


@given(
    st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.just(float("nan"))), st.integers(0, 20)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 30),
)
def test_examples_are_of_one_block_and_never_more_than_asked_for(cases, count):
    scores = np.array([score for score, _ in cases])
    blocks = np.array([block for _, block in cases], dtype=np.intp)
    rows = in_best_block(scores, blocks)
    assert len(set(blocks[rows].tolist())) == 1
    picked = spread(scores[rows], count)
    assert len(picked) == len(set(picked.tolist())) == min(count, len(rows))


def test_the_block_of_a_chip(tmp_path):
    """A GeoTIFF of one strip of rows is one block; a chip at the border is cut, not spread over two."""
    path = write_geotiff(tmp_path / "s.tif", np.full((4, 40, 60), 900, np.uint16))
    scene = open_geotiff(path)
    cases = boxes((30, -30), (300, -200), (5000, 0))
    assert blocks_of_cases(scene, cases, 24).tolist() == [0, 0, -2]
