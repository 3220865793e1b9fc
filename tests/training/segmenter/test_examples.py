"""Blends of examples: their proportion, and that they repeat."""

from pipeline.training.segmenter.examples import Blend


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, index: int):
        return self.name, index


def test_a_blend_has_its_share_of_each_and_repeats():
    blend = Blend(Named("tile"), Named("crop"), 0.3, seed=1)
    names = [blend[i][0] for i in range(1000)]
    assert 250 < names.count("tile") < 350
    assert [blend[i] for i in range(50)] == [(name, i) for i, name in enumerate(names[:50])]
    assert all(Blend(Named("tile"), Named("crop"), 1.0, seed=1)[i] == ("tile", i) for i in range(50))
