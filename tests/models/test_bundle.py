"""Model bundles: weights and card stay together, and a wrong one is refused by name."""

import hashlib
import pickle

import pytest
import torch
import yaml
from torch import nn

from pipeline.errors import BundleError
from pipeline.models.bundle import (
    SHIPPED,
    Bundle,
    Calibration,
    Card,
    open_bundle,
    save_bundle,
    save_card,
    shipped_bundles,
)
from pipeline.models.legend import LegendClass
from tests.test_safe_yaml import lines

CARD = Card(
    id="trial",
    version="1.0",
    task="segmentation",
    architecture="unet",
    arguments={"widths": [4, 8]},
    bands=("B02", "B03", "B04", "B08"),
    mean=(0.1, 0.1, 0.1, 0.3),
    std=(0.05, 0.05, 0.05, 0.1),
    classes=(LegendClass(value=0, name="water", colour="#419BDF"),),
    halo=16,
    stride=4,
    training_data=({"name": "simulated", "licence": "Apache-2.0"},),
    quality={"accuracy": 0.9},
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3))


@pytest.fixture
def bundle(tmp_path, network):
    return save_bundle(tmp_path / "trial", CARD, network.state_dict())


def test_what_is_saved_is_what_is_opened(bundle, network):
    opened = open_bundle(str(bundle.folder))
    assert opened.card == bundle.card
    assert opened.card.model_copy(update={"weights_sha256": ""}) == CARD
    state = opened.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert sorted(path.name for path in bundle.folder.iterdir()) == ["card.yaml", "weights.safetensors"]


def test_the_same_weights_make_the_same_bytes(bundle, tmp_path, network):
    again = save_bundle(tmp_path / "again", CARD, network.state_dict())
    assert again.weights.read_bytes() == bundle.weights.read_bytes()
    assert again.card == bundle.card


def test_thresholds_with_and_without_roads():
    card = CARD.model_copy(update={"score_threshold": 0.9, "score_threshold_near_roads": 0.0})
    assert [card.default_threshold(near) for near in (True, False)] == [0.0, 0.9]
    same = CARD.model_copy(update={"score_threshold": 0.7})
    assert [same.default_threshold(near) for near in (True, False)] == [0.7, 0.7]
    assert CARD.default_threshold(near_roads=True) == 0.5


def test_calibration_is_part_of_the_card(bundle):
    assert bundle.card.calibration == Calibration()  # changes nothing
    edit(bundle, lambda card: card.update(calibration={"temperature": 1.5, "offset": -0.5}))
    assert open_bundle(str(bundle.folder)).card.calibration == Calibration(temperature=1.5, offset=-0.5)
    edit(bundle, lambda card: card.update(calibration={"temperature": 0.0}))
    with pytest.raises(BundleError, match="temperature"):
        open_bundle(str(bundle.folder))


def test_the_score_of_a_probability_is_the_inverse_of_the_probability_of_a_score():
    calibration = Calibration(temperature=1.5, offset=-0.5, motion=0.4)
    assert calibration.score(float(calibration.probability(0.3, 2.0)), 2.0) == pytest.approx(0.3)
    assert calibration.score(0.0, 2.0) == 0


def test_long_shadows_raise_chances():
    calibration = Calibration(temperature=1.5, offset=-0.5, motion=0.4, shadow=0.3)
    under = calibration.under(2.0)
    assert (under.offset, under.shadow) == (pytest.approx(0.1), 0.0)
    assert (under.temperature, under.motion) == (1.5, 0.4)
    assert calibration.under(0.0).probability(0.3, 2.0) == calibration.probability(0.3, 2.0)


def test_calibrations_with_and_without_roads(bundle):
    """A card from before there were two has one, for both."""
    one, other = {"temperature": 1.5, "offset": -0.5, "motion": 0.0}, {"temperature": 1.0, "motion": 0.4}
    edit(bundle, lambda card: (card.update(calibration=one), card.pop("calibration_near_roads")))
    old = open_bundle(str(bundle.folder)).card
    assert [old.calibration_for(near) for near in (True, False)] == [Calibration(**one)] * 2
    edit(bundle, lambda card: card.update(calibration_near_roads=other))
    new = open_bundle(str(bundle.folder)).card
    assert [new.calibration_for(near) for near in (True, False)] == [Calibration(**other), Calibration(**one)]


def test_a_new_card_leaves_the_weights_alone(bundle):
    before = bundle.weights.read_bytes()
    saved = save_card(bundle.folder, bundle.card.model_copy(update={"quality": {"f1": 0.95}}))
    assert open_bundle(str(bundle.folder)).card == saved.card
    assert saved.state_dict()
    assert bundle.weights.read_bytes() == before


OPTIONAL = CARD.model_copy(update={"optional_bands": ("B03", "B08")})


def test_any_optional_bands_are_used_that_are_there():
    assert OPTIONAL.required_bands == ("B02", "B04")
    assert OPTIONAL.bands_used(("B01", "B08", "B04", "B03", "B02")) == OPTIONAL.bands
    assert OPTIONAL.bands_used(("B04", "B03", "B02")) == ("B02", "B03", "B04")
    assert OPTIONAL.bands_used(("B02", "B04", "B08")) == ("B02", "B04", "B08")
    assert OPTIONAL.bands_used(("B04", "B02")) == ("B02", "B04")


def test_a_card_says_what_missing_bands_cost_where_that_was_measured():
    measured = {"agreement_without": {"no band": 0.8, "B08": 0.75, "B03 B08": 1}}
    card = OPTIONAL.model_copy(update={"quality": measured})
    assert [card.agreement_without(bands) for bands in ((), ["B08"], {"B08", "B03"}, ["B03"])] == [
        0.8,
        0.75,
        1.0,
        None,
    ]
    for nothing in ({}, {"agreement_without": [0.8]}, {"agreement_without": {"B08": "high"}}):
        assert OPTIONAL.model_copy(update={"quality": nothing}).agreement_without(["B08"]) is None


def test_a_scene_may_lack_optional_bands_and_no_others(bundle):
    lenient = bundle.model_copy(update={"card": OPTIONAL})
    lenient.card.check_scene(("B02", "B04"), 10.0, "S2_X")
    with pytest.raises(BundleError, match="needs band B04, which S2_X lacks"):
        lenient.card.check_scene(("B02", "B03", "B08"), 10.0, "S2_X")


def test_optional_bands_are_among_the_bands():
    with pytest.raises(ValueError, match="Missing there: B11"):
        Card.model_validate({**CARD.model_dump(), "optional_bands": ["B11"]})


def test_a_network_is_loaded_in_evaluation_mode(bundle, network):
    fresh = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)).train()
    loaded = bundle.load_into(fresh)
    assert not loaded.training
    image = torch.rand(1, 4, 8, 8)
    assert torch.equal(loaded(image), network.eval()(image))


def test_half_precision_weights_are_loaded_as_float32(tmp_path, network):
    half = {
        key: value.half() if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    bundle = save_bundle(tmp_path / "half", CARD, half)
    loaded = bundle.load_into(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)))
    assert loaded[0].weight.dtype == torch.float32
    assert torch.allclose(loaded[0].weight, network[0].weight, atol=1e-3)


def test_weights_that_were_changed_are_refused(bundle):
    data = bytearray(bundle.weights.read_bytes())
    data[-1] ^= 1
    bundle.weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"Weights of bundle trial do not match its card: .* SHA-256"):
        bundle.state_dict()


def test_a_card_without_a_hash_is_refused(bundle):
    edit(bundle, lambda card: card.pop("weights_sha256"))
    with pytest.raises(BundleError, match=r"expected nothing\.\.\.$"):
        open_bundle(str(bundle.folder)).state_dict()


def test_a_pickle_is_never_opened(bundle, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    bundle.weights.write_bytes(pickle.dumps(Trap()))
    sealed = bundle.model_copy(
        update={"card": bundle.card.model_copy(update={"weights_sha256": sha256(bundle)})}
    )
    with pytest.raises(BundleError, match=r"weights.safetensors is not a safetensors file \("):
        sealed.state_dict()
    assert not (tmp_path / "sprung").exists()


def test_missing_weights(bundle):
    bundle.weights.unlink()
    with pytest.raises(BundleError, match=r"Bundle trial has no readable weights at .*weights\.safetensors"):
        bundle.state_dict()


def test_weights_of_another_network(bundle):
    with pytest.raises(
        BundleError, match=r"Weights of bundle trial don't fit unet: .*size mismatch"
    ) as caught:
        bundle.load_into(nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)))
    assert "\n" not in str(caught.value)


def test_a_scene_that_lacks_a_band_is_refused_by_name(bundle):
    with pytest.raises(BundleError) as caught:
        bundle.card.check_scene(("B02", "B03", "B11"), 10.0, "S2A_MSIL2A_X")
    assert str(caught.value) == (
        "Model trial needs band B04, B08, which S2A_MSIL2A_X lacks. It has: B02, B03, B11."
    )
    with pytest.raises(BundleError, match="It has: none"):
        bundle.card.check_scene((), 10.0, "S2A_MSIL2A_X")


def test_a_scene_of_another_pixel_size_is_refused_by_name(bundle):
    bands = dict.fromkeys(("B02", "B03", "B04", "B08", "B11"))
    bundle.card.check_scene(bands, 10.0, "S2A_MSIL2A_X")
    bundle.card.check_scene(bands, 9.98, "a2_braunschweig")  # resampled chips are not exactly 10 m
    with pytest.raises(BundleError) as caught:
        bundle.card.check_scene(bands, 20.0, "S2A_MSIL2A_X")
    assert str(caught.value) == "Model trial is for 10 m pixels, S2A_MSIL2A_X has 20 m."


def test_a_card_with_an_unknown_key_is_refused(bundle):
    edit(bundle, lambda card: card.update(colour_of_the_sky="blue"))
    with pytest.raises(
        BundleError, match=r"Not a valid model card: .*card\.yaml: .*colour_of_the_sky"
    ) as caught:
        open_bundle(str(bundle.folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.pop("bands"),
        lambda card: card.update(task="dreaming"),
        lambda card: card.update(units="digital numbers"),
        lambda card: card["classes"][0].update(colour="blue"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(bundle, change):
    edit(bundle, change)
    with pytest.raises(BundleError, match="Not a valid model card"):
        open_bundle(str(bundle.folder))


@pytest.mark.parametrize(
    "text",
    [
        *("id: [", "- a list", "", "!!python/object/apply:os.getcwd []"),
        pytest.param("[" * 100_000, id="depth without end"),
        pytest.param(lines(12), id="aliases that fill the memory"),
    ],
)
def test_a_card_that_is_no_card_is_refused(bundle, text):
    (bundle.folder / "card.yaml").write_text(text)
    with pytest.raises(BundleError, match="Not a valid model card"):
        open_bundle(str(bundle.folder))


def test_a_card_that_is_no_text_is_refused(bundle):
    (bundle.folder / "card.yaml").write_bytes(b"id: \xff")
    with pytest.raises(BundleError, match="Not a valid model card"):
        open_bundle(str(bundle.folder))


def test_no_bundle_there(tmp_path):
    with pytest.raises(
        BundleError, match=r"No model bundle at .*nowhere \(no card.yaml there\)\. Shipped bundles: "
    ):
        open_bundle(str(tmp_path / "nowhere"))


def test_shipped_bundles_are_whole_and_small():
    for bundle in shipped_bundles():
        assert bundle.folder.parent == SHIPPED
        assert bundle.state_dict()
        assert bundle.weights.stat().st_size <= 15e6
        assert len(bundle.card.mean) == len(bundle.card.std) == len(bundle.card.bands)
        assert bundle.card.training_data
        assert bundle.card.quality
        assert bundle.card.limitations
        assert bundle.card.halo % bundle.card.stride == 0


def edit(bundle, change) -> None:
    path = bundle.folder / "card.yaml"
    card = yaml.safe_load(path.read_text())
    change(card)
    path.write_text(yaml.safe_dump(card))


def sha256(bundle) -> str:
    return hashlib.sha256(bundle.weights.read_bytes()).hexdigest()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda card: card["mean"].__setitem__(0, NAN), "mean"),
        (lambda card: card["mean"].__setitem__(0, 1e9), "mean"),
        (lambda card: card["mean"].pop(), "mean has 3 numbers for 4 bands"),
        (lambda card: card["std"].__setitem__(0, 0.0), "std"),
        (lambda card: card["std"].__setitem__(0, -1.0), "std"),
        (lambda card: card["std"].__setitem__(0, INF), "std"),
        (lambda card: card["std"].append(1.0), "std has 5 numbers for 4 bands"),
        (lambda card: card.update(bands=["B02"] * 4), "bands must differ"),
        (lambda card: card.update(bands=[], mean=[], std=[]), "bands"),
        (lambda card: card.update(score_threshold=1.5), "score_threshold"),
        (lambda card: card.update(score_threshold=NAN), "score_threshold"),
        (lambda card: card.update(score_threshold_near_roads=-0.1), "score_threshold_near_roads"),
        (lambda card: card["calibration"].update(temperature=0), "temperature"),
        (lambda card: card["calibration"].update(temperature=INF), "temperature"),
        (lambda card: card["calibration"].update(offset=NAN), "offset"),
        (lambda card: card["calibration"].update(motion=1e9), "motion"),
        (lambda card: card.update(halo=-1), "halo"),
        (lambda card: card.update(halo=10**9), "halo"),
        (lambda card: card.update(stride=0), "stride"),
        (lambda card: card.update(gsd=NAN), "gsd"),
        (lambda card: card.update(gsd=0), "gsd"),
        (lambda card: card.update(classes=card["classes"] * 2), "values of classes must differ"),
        (lambda card: card["classes"][0].update(value=255), "value"),
        (lambda card: card["classes"][0].update(value=-1), "value"),
        (lambda card: card["classes"][0].update(colour="#GG0000"), "colour"),
        (lambda card: card["classes"][0].update(name=""), "name"),
        (lambda card: card.update(arguments={"widths": [10**9]}), "arguments"),
        (lambda card: card.update(arguments={"widths": [NAN]}), "arguments"),
        (lambda card: card.update(arguments={"widths": [4] * 5000}), "arguments"),
    ],
)
def test_numbers_of_a_card_that_can_not_be_are_named(bundle, change, named):
    edit(bundle, change)
    with pytest.raises(BundleError, match=rf"Not a valid model card: .*{named}") as caught:
        open_bundle(str(bundle.folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda value: value * NAN, r"Weights of bundle trial are not finite in 0\.weight"),
        (lambda value: value.double() * 1e300, "are not finite in 0"),
        (lambda value: (value * 100).to(torch.int8), r"are of type torch\.int8 in 0\.weight"),
        (lambda value: value[:2], "don't fit unet"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, network, values, message):
    state = network.state_dict()
    saved = save_bundle(tmp_path / "bad", CARD, {**state, "0.weight": values(state["0.weight"])})
    with pytest.raises(BundleError, match=message):
        saved.load_into(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)))


@pytest.mark.parametrize("header", [2**40, 2**63 - 1, 10**8 + 1, 0])
def test_a_header_of_any_length_is_no_safetensors_file(bundle, header):
    content = header.to_bytes(8, "little") + b"{}"
    bundle.weights.write_bytes(content)
    card = CARD.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(BundleError, match="is not a safetensors file") as caught:
        Bundle(folder=bundle.folder, card=card).state_dict()
    assert "\n" not in str(caught.value)


def test_weights_of_gigabytes_are_not_read(bundle):
    with bundle.weights.open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(BundleError, match="have 8589934592 bytes"):
        bundle.state_dict()
