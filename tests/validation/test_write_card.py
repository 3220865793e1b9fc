"""A measured card is written beside the weights, or into a copy of the bundle."""

import pytest
from matplotlib.figure import Figure

from pipeline.errors import OutputError
from pipeline.models.bundle import open_bundle, save_bundle
from pipeline.models.registry import build_network
from pipeline.validation.write_card import write_card
from tests.models.test_unet import small_card


@pytest.fixture
def bundle(tmp_path):
    card = small_card()
    return save_bundle(tmp_path / "bundle", card, build_network(card).state_dict())


def test_a_copy_has_weights_card_and_picture_and_the_original_is_left(bundle, tmp_path):
    card = bundle.card.model_copy(update={"quality": {"agreement": 0.8}})
    copy = write_card(card, Figure(), bundle, tmp_path / "new" / "copy")
    assert open_bundle(str(copy.folder)).card.quality == {"agreement": 0.8}
    assert copy.state_dict().keys() == bundle.state_dict().keys()
    assert (copy.folder / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert open_bundle(str(bundle.folder)).card.quality == {}


@pytest.mark.parametrize("named", [True, False])
def test_the_bundle_itself_gets_the_card(bundle, named):
    card = bundle.card.model_copy(update={"quality": {"agreement": 0.8}})
    out = bundle.folder / ".." / bundle.folder.name if named else None
    write_card(card, Figure(), bundle, out)
    opened = open_bundle(str(bundle.folder))
    assert opened.card.quality == {"agreement": 0.8}
    assert opened.state_dict()


def test_a_folder_that_cannot_be_made(bundle, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="can't be created"):
        write_card(bundle.card, Figure(), bundle, tmp_path / "file" / "copy")
