"""Geometry of truck boxes."""

from pipeline.evaluation.trucks.boxes import angle_between


def test_angles_go_round():
    assert angle_between([350, 10, 0], [10, 350, 180]).tolist() == [20, 20, 180]
    assert angle_between(175, 5, period=180) == 10
