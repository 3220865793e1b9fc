"""The catalogue: complete, consistent, and equal to the files that it describes."""

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest

from pipeline.errors import OpenDataError
from pipeline.open_data.catalogue import Member, Original, catalogue
from pipeline.open_data.resolve import names_in_recipe, split

DATASETS = catalogue().datasets
HOUSE = Path(__file__).resolve().parents[2]


def test_every_file_is_below_its_folder_and_no_two_are_the_same():
    places = [dataset.place(file) for dataset in DATASETS.values() for file in dataset.files]
    assert all(not place.is_absolute() and ".." not in place.parts for place in places)
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_states_licence_and_source(name):
    dataset = DATASETS[name]
    assert dataset.files and dataset.about and dataset.source
    if dataset.level:
        assert "Copernicus" in dataset.licence  # as the terms of the imagery ask
    assert PurePosixPath(name).parts == (name,)


def test_originals_are_at_https_and_members_in_known_archives():
    parts = [part for dataset in DATASETS.values() for file in dataset.files for part in file.parts]
    originals = [*catalogue().archives.values(), *(part for part in parts if isinstance(part, Original))]
    assert {urlsplit(one.url).scheme for one in originals} == {"https"}
    assert {part.archive for part in parts if isinstance(part, Member)} == set(catalogue().archives)


def test_a_mirror_beside_the_project_has_what_the_catalogue_says(shared_data):
    for dataset in DATASETS.values():
        for file in dataset.files:
            path = shared_data / dataset.place(file)
            if path.is_file():
                content = path.read_bytes()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256), path


@pytest.mark.parametrize("file", sorted((HOUSE / "configs").glob("*.yaml")), ids=lambda file: file.name)
def test_recipes_name_what_is_in_the_catalogue(file):
    for name in names_in_recipe(file):
        assert catalogue().select(*split(name))


def test_the_teacher_is_two_complete_networks():
    parts = {"saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"}
    for network in ("forward", "backward"):
        files = catalogue().select("dynamic-world", network)
        assert {file.path.removeprefix(f"{network}/") for file in files} == parts


def test_an_unknown_name_is_an_error_with_the_nearest_one():
    with pytest.raises(OpenDataError, match=r"No dataset is called 'antwerpen'\. Did you mean antwerp\?"):
        catalogue().dataset("antwerpen")
    with pytest.raises(OpenDataError, match=r"No dataset is called '%'\. List all: truckscape data list"):
        catalogue().dataset("%")
