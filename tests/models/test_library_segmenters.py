"""Segmenters of libraries: exact under tiling or refused; weights of others are fetched only if asked for."""

import http.server
import sys
import threading
from functools import partial

import pytest
import torch

from pipeline.errors import BundleError, MissingExtraError, TrainingError
from pipeline.models.bundle import save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.library_segmenters import start_encoder
from pipeline.models.registry import build_network
from tests.models.test_unet import randomised, small_card, tiled

pytest.importorskip("torchgeo", reason="needs the extra train")


pytest.importorskip("segmentation_models_pytorch", reason="needs the extra train")


SHALLOW = {"encoder": "resnet18", "depth": 2, "widths": [8, 8]}


FAMILIES = {"fcn": {"filters": 6}, "smp_unet": SHALLOW}


NOWHERE = "http://127.0.0.1:9/weights.pth"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_output_has_the_size_of_the_input_and_a_channel_a_class(family):
    network = build_network(small_card(architecture=family, arguments=FAMILIES[family])).eval()
    assert network(torch.zeros(2, 2, 16, 24)).shape == (2, 9, 16, 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_tiles_equal_the_whole_scene(family):
    card = with_halo(small_card(architecture=family, arguments=FAMILIES[family]))
    network = randomised(card)
    image = torch.randn(2, 92, 84)
    with torch.inference_mode():
        whole = network(image[None])[0]
    torch.testing.assert_close(tiled(network, image, 20, card), whole, rtol=1e-4, atol=1e-4)


def test_a_shallow_u_net_keeps_no_stage_that_it_never_runs():
    network = build_network(small_card(architecture="smp_unet", arguments=SHALLOW)).train()
    network(torch.randn(2, 2, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "resnet19"}, "resnet19.*supported encoders"),
        ({"depth": 3, "widths": [8]}, "depth 3, widths \\[8\\]"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_can_t_be_built_is_refused_in_a_line(arguments, message):
    with pytest.raises(BundleError, match=message) as caught:
        build_network(small_card(architecture="smp_unet", arguments=arguments))
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchgeo.models", None)
    with pytest.raises(MissingExtraError, match=r"torchgeo.*truckscape\[train\]"):
        build_network(small_card(architecture="fcn", arguments={}))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_needs_nothing_from_the_net(family, tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("it went to the net"))
    card = with_halo(small_card(architecture=family, arguments=FAMILIES[family]))
    network = randomised(card)
    bundle = save_bundle(tmp_path, card, network.state_dict())
    again = bundle.load_into(build_network(bundle.card))
    image = torch.randn(1, 2, 16, 16)
    torch.testing.assert_close(again(image), network(image))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file as torchgeo's hub serves it: a timm ResNet-18 with thirteen bands."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hub") / "resnet18_sentinel2.pth"
    torch.save(timm.create_model("resnet18", in_chans=13, num_classes=0).state_dict(), path)
    return path


@pytest.fixture
def hub(checkpoint, tmp_path, monkeypatch):
    """The URL of the file on a server of this machine, and an empty cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=checkpoint.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{checkpoint.name}"
        server.shutdown()


def shallow(**changes):
    card = small_card(architecture="smp_unet", arguments=SHALLOW, **changes)
    return card, build_network(card)


def test_weights_come_from_a_server(hub, checkpoint):
    card, network = shallow()
    assert start_encoder(network, card, "require", source=hub)
    given = torch.load(checkpoint, weights_only=True)
    torch.testing.assert_close(
        network.encoder.layer1[0].conv1.weight.detach(), given["layer1.0.conv1.weight"]
    )


def test_the_first_convolution_keeps_the_bands_of_the_card_in_its_units(checkpoint):
    card, network = shallow(bands=("B8A", "B02"), std=(0.2, 0.05))
    start_encoder(network, card, "require", source=str(checkpoint))
    given = torch.load(checkpoint, weights_only=True)["conv1.weight"]
    own = network.encoder.conv1.weight.detach()
    torch.testing.assert_close(own[:, 0], given[:, 8] * 0.2)  # B1, B2, ..., B8, B8a: the ninth
    torch.testing.assert_close(own[:, 1], given[:, 1] * 0.05)


def test_what_can_t_be_fetched_is_told_in_a_line():
    card, network = shallow()
    with pytest.raises(TrainingError, match=r"can't be loaded from http://127\.0\.0\.1:9/.*prefer") as caught:
        start_encoder(network, card, "require", source=NOWHERE)
    assert "\n" not in str(caught.value)


def test_where_weights_are_only_preferred_training_goes_on(caplog):
    card, network = shallow()
    before = network.encoder.conv1.weight.detach().clone()
    assert not start_encoder(network, card, "prefer", source=NOWHERE)
    assert "continues without them" in caplog.text
    assert torch.equal(network.encoder.conv1.weight, before)


def test_without_being_asked_nothing_is_fetched():
    card, network = shallow()
    assert not start_encoder(network, card, "no", source=NOWHERE)


def test_a_file_that_runs_code_is_not_opened(tmp_path):
    class Danger:
        def __reduce__(self):
            return (open, (str(tmp_path / "was here"), "w"))

    torch.save({"conv1.weight": Danger()}, tmp_path / "bad.pth")
    card, network = shallow()
    with pytest.raises(TrainingError, match="can't be loaded"):
        start_encoder(network, card, "require", source=str(tmp_path / "bad.pth"))
    assert not (tmp_path / "was here").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 13, 7, 7)}, tmp_path / "other.pth")
    card, network = shallow()
    with pytest.raises(TrainingError, match="do not fit encoder"):
        start_encoder(network, card, "require", source=str(tmp_path / "other.pth"))


def test_a_band_that_the_weights_don_t_know_is_named(checkpoint):
    card, network = shallow(bands=("B02", "B08"))
    with pytest.raises(TrainingError, match=r"lack band B08 of the card. They have: B04, B03, B02"):
        start_encoder(network, card, "require", "SENTINEL2_RGB_MOCO", str(checkpoint))


def test_unknown_weights_and_families_without_weights_are_refused():
    card, network = shallow()
    with pytest.raises(TrainingError, match=r"Unknown weights IMAGENET.*SENTINEL2_ALL_MOCO"):
        start_encoder(network, card, "require", "IMAGENET")
    unet = small_card()
    with pytest.raises(TrainingError, match="exist for smp_unet"):
        start_encoder(build_network(unet), unet, "require")
