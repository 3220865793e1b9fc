import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import gallery
from pipeline.report.gallery import choose_examples, galleries_of, spread, truck_chips
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.conftest import write_geotiff
from tests.evaluation.trucks.test_scores import boxes


def test_examples_are_spread_over_the_scores():
    scores = np.linspace(0, 1, 101)
    assert scores[spread(scores, 5)].tolist() == [0, 0.25, 0.5, 0.75, 1]


@given(
    st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=60), st.integers(1, 30)
)
def test_never_more_examples_than_asked_for_and_none_twice(scores, count):
    picked = spread(np.array(scores), count)
    assert len(picked) == len(set(picked.tolist())) == min(count, len(scores))


def test_the_trucks_with_the_highest_scores_have_chips(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_TRUCK_CHIPS", 2)
    path = write_geotiff(tmp_path / "s.tif", np.full((4, 40, 60), 900, np.uint16))
    trucks = boxes((30, -30), (300, -200), (400, -300), score=[0.6, 0.9, 0.7], id=["low", "high", "middle"])
    chips = truck_chips(open_geotiff(path), trucks)
    assert set(chips) == {"high", "middle"}
    cases = trucks.assign(outcome="truck")
    chosen, kept = choose_examples(cases, chips)
    assert (chosen, set(kept)) == ({"truck": [1, 2]}, {"high", "middle"})
    (shown,) = galleries_of(cases, chosen, kept)
    assert (len(shown.examples), shown.pictures, shown.total) == (2, 2, 3)
