"""A card as a page: figures with their intervals, curves with bars, the network layer by layer."""

import io

from rich.console import Console

from pipeline.models.bundle import Calibration, open_bundle, save_card
from pipeline.report.card import card_page, headlines

QUALITY = {
    "a2": {
        "near_roads": {
            "tp": 15,
            "fp": 1,
            "fn": 2,
            "precision": 0.938,
            "recall": 0.882,
            "f1": 0.909,
            "interval_95": {"f1": [0.857, 1.0], "precision": [None, None]},
        }
    },
    "precision_recall": {"columns": ["score_from", "precision"], "rows": [[0.25, 0.5], [0.75, 1.0]]},
    "speeds": {"known": 21, "rmse_kmh": 5.5, "bias_kmh": None},
}


def page(bundle) -> str:
    text = io.StringIO()
    Console(width=160, file=text).print(card_page(bundle))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def with_card(folder, **changes):
    folder.mkdir(exist_ok=True)
    return save_card(folder, open_bundle("trucks").card.model_copy(update=changes))


def test_figures_carry_their_intervals(tmp_path):
    shown = page(with_card(tmp_path, quality=QUALITY))
    assert (
        "near roads: f1 0.909 [0.857, 1], precision 0.938, recall 0.882; 15 right, 1 false, 2 missed" in shown
    )
    assert "speeds: known 21, rmse kmh 5.5, bias kmh -" in shown


def test_curves_lie_on_their_side_with_bars(tmp_path):
    shown = page(with_card(tmp_path, quality=QUALITY)).splitlines()
    first = next(i for i, line in enumerate(shown) if "score from" in line)
    assert shown[first].split() == ["score", "from", ".25", ".75"]
    assert shown[first + 1].split() == ["precision", ".50", "1.00", "▅█"]


def test_calibration_and_thresholds_are_told(tmp_path):
    bare = page(with_card(tmp_path, calibration=Calibration(), calibration_near_roads=None))
    assert "a score is no probability" in bare
    reported = page(
        with_card(
            tmp_path,
            calibration=Calibration(temperature=1.2, offset=0.5),
            calibration_near_roads=Calibration(temperature=1.5, offset=-0.25, motion=0.4, shadow=0.2),
            score_threshold=0.9,
            score_threshold_near_roads=0.4,
        )
    )
    assert "counts from 0.4 on near roads, from 0.9 where no roads are given" in reported
    network = "calibrated: log-odds of the network"
    assert (
        f"near roads, {network} / 1.5 -0.25, and +0.4 for each standard deviation of motion, "
        "and +0.2 for long shadows; 0.8 means 80 %" in reported
    )
    assert f"without roads, {network} / 1.2 +0.5; 0.8 means 80 %" in reported


def test_one_calibration_for_both_cases_is_told_once(tmp_path):
    one = Calibration(temperature=1.5, offset=-0.25)
    reported = page(with_card(tmp_path, calibration=one, calibration_near_roads=None))
    assert reported.count("log-odds of the network") == 1
    assert "near roads, calibrated" not in reported


def test_the_network_is_shown_layer_by_layer():
    shown = page(open_bundle("landcover"))
    assert "halo 20 px; stride 2 px" in shown
    assert "a detection counts" not in shown
    for column in ("kernel", "stride", "padding", "output", "parameters", "receptive field", "jump"):
        assert column in shown


def test_tables_that_begin_with_names_are_tables(tmp_path):
    rows = [["alps", "L1C", 1200, 0.8, None], ["nile delta", "L2A", 90, 0.75, 0.25]]
    columns = ["place", "level", "pixels", "agreement", "mean_iou"]
    shown = page(with_card(tmp_path, quality={"places": {"columns": columns, "rows": rows}})).splitlines()
    first = next(i for i, line in enumerate(shown) if "mean iou" in line)
    assert shown[first].split() == ["place", "level", "pixels", "agreement", "mean", "iou"]
    assert shown[first + 1].split() == ["alps", "L1C", "1200", ".80", "-"]
    assert shown[first + 2].split() == ["nile", "delta", "L2A", "90", ".75", ".25"]


def test_land_cover_has_probabilities_with_a_temperature(tmp_path):
    card = open_bundle("landcover").card

    def shown(temperature: float) -> str:
        calibration = Calibration(temperature=temperature)
        return page(save_card(tmp_path, card.model_copy(update={"calibration": calibration})))

    assert "softmax of the network's scores, not calibrated" in shown(1.0)
    assert "softmax of the network's scores / 0.8; 0.8 means 80 %" in shown(0.8)
    assert "softmax" not in page(with_card(tmp_path))


def test_what_was_not_measured_is_not_made_up(tmp_path):
    shown = page(with_card(tmp_path, quality={}, training_data=()))
    assert "nothing yet" in shown
    assert "not stated" in shown


def test_headlines_leave_curves_and_tables_out(tmp_path):
    card = with_card(tmp_path, quality={**QUALITY, "accuracy": 0.9}).card
    first, *others = headlines(card)
    assert first.startswith("a2, near roads: f1 0.909 [0.857, 1]")
    assert others == ["speeds: known 21, rmse kmh 5.5", "accuracy: 0.9"]


def test_the_picture_is_pointed_at(tmp_path):
    bundle = with_card(tmp_path)
    assert "quality.png" not in page(bundle)
    (tmp_path / "quality.png").write_bytes(b"")
    assert "quality.png" in page(bundle)
