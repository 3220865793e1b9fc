"""`truckscape data`: what is listed and fetched, and which exit status people get."""

from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import OpenDataError
from tests.open_data.conftest import known
from tests.open_data.datasets import files_below

__all__ = ["known"]


def run(*arguments: str):
    return CliRunner().invoke(cli.app, ["data", *arguments], env={"COLUMNS": "200"})


def test_the_list_says_what_is_fetched(known):
    run("fetch", "town", "--mirror", str(known.mirror))
    (known.cache / "fields").mkdir()
    (known.cache / "fields" / "B02.tif").write_bytes(b"blue")
    listed = run("list").output
    lines = {line.split()[0]: line.split() for line in listed.splitlines() if line.strip()}
    assert lines["town"][-1] == "yes"
    assert lines["fields"][-3:] == ["1", "of", "2"]
    assert lines["net"][-1] == "no"
    assert "CC0-1.0" in lines["net"]
    assert lines["cache"] == ["cache", str(known.cache)]


def test_what_a_recipe_names_is_fetched(known, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("scenes: [{path: data:town}]\nteacher: {model: data:net/forward}\n")
    done = run("fetch", "--recipe", str(recipe), "--mirror", str(known.mirror))
    assert done.exit_code == 0
    assert "town: 0.0 MB to fetch (CC0-1.0)" in done.stderr
    assert "scenes/town.tif: 0.0 MB" in done.stderr
    assert files_below(known.cache) == [
        "models/net/forward/a.pb",
        "models/net/forward/variables/b",
        "scenes/town.tif",
    ]
    again = run("fetch", "--recipe", str(recipe), "--mirror", str(known.mirror))
    assert "town: complete" in again.stderr


def test_everything_to_another_folder(known, tmp_path):
    done = run("fetch", "--all", "--cache", str(tmp_path / "own"), "--mirror", known.mirror.as_uri())
    assert files_below(tmp_path / "own") == files_below(known.mirror)
    assert f"TRUCKSCAPE_DATA={tmp_path / 'own'}" in done.stderr
    assert files_below(known.mirror) and not known.cache.exists()


def test_variables_name_cache_and_mirror(known, monkeypatch):
    monkeypatch.setenv("TRUCKSCAPE_DATA_MIRROR", str(known.mirror))
    assert run("fetch", "town").exit_code == 0
    assert files_below(known.cache) == ["scenes/town.tif"]


def test_all_names_are_known_before_anything_is_fetched(known):
    failed = run("fetch", "town", "tonw", "--mirror", str(known.mirror))
    assert isinstance(failed.exception, OpenDataError)
    assert not known.cache.exists()


def test_datasets_that_fail_do_not_keep_others_from_it(known):
    for path in ("fields/B03.tif", "scenes/town.tif"):
        (known.mirror / path).unlink()
    failed = run("fetch", "fields", "town", "port", "--mirror", str(known.mirror))
    assert isinstance(failed.exception, OpenDataError)
    assert "town.tif is published nowhere else" in str(failed.exception)
    assert "error: " in failed.stderr and "B03.tif is published nowhere else" in failed.stderr
    assert files_below(known.cache) == ["fields/B02.tif", "scenes/port_1.tif", "scenes/port_2.tif"]


def test_one_file_of_a_dataset(known):
    run("fetch", "port/port_2.tif", "--mirror", str(known.mirror))
    assert files_below(known.cache) == ["scenes/port_2.tif"]


def test_nothing_named_is_wrong_usage(known):
    failed = run("fetch")
    assert failed.exit_code == 2
    assert "--recipe FILE" in failed.stderr


def test_a_recipe_without_names_needs_nothing(known, tmp_path):
    (tmp_path / "recipe.yaml").write_text("steps: 3\n")
    assert run("fetch", "--recipe", str(tmp_path / "recipe.yaml")).exit_code == 0
