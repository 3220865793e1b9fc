"""The house around the code: what the README promises, what is pinned, what is scheduled."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import file_server

HOUSE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins():
    lines = (HOUSE / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def targets():
    return set(re.findall(r"^([a-z-]+):", (HOUSE / "Makefile").read_text(), re.MULTILINE))


def requirements(project, *extras: str) -> list[Requirement]:
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(text) for group in groups for text in group]


def test_what_is_installed_is_pinned_and_within_its_range(project, pins):
    for requirement in requirements(project, "dev", "clouds", "docs", "train"):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(pins[name]), f"{requirement} excludes {pins[name]}"


def test_ranges_not_pins_in_pyproject(project):
    for requirement in requirements(project, "dev", "clouds", "docs", "train", "dask", "ray"):
        assert requirement.specifier, f"{requirement.name} has no range"
        assert not any(part.operator in {"==", "==="} for part in requirement.specifier)


def test_the_pins_that_hold_the_house_together(project, pins):
    assert (pins["torch"], pins["torchvision"]) == ("2.14.1", "0.29.1")
    ranges = {requirement.name: str(requirement.specifier) for requirement in requirements(project)}
    assert set(ranges["prefect"].split(",")) == {">=3.8", "<3.9"}
    assert ranges["fastapi"] == "<0.151"
    assert ranges["sqlalchemy"] == "<2.1"


def test_constraints_leave_the_build_of_torch_to_pip(pins):
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]
    assert "truckscape" not in pins


def test_make_targets(targets):
    assert {"install", "demo", "test", "lint", "bench", "clean"} <= targets


@pytest.mark.parametrize("file", ["README.md", ".ci/run", "CHANGELOG.md"])
def test_every_make_command_that_is_named_exists(file, targets):
    named = set(re.findall(r"^\s*(?:\$ |`)?make ([a-z-]+)", (HOUSE / file).read_text(), re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z-]+)`", (HOUSE / file).read_text()))
    assert named <= targets


@pytest.mark.parametrize(
    "page", sorted(HOUSE.glob("*.md")) + sorted(HOUSE.glob("*/*.md")), ids=lambda page: page.name
)
def test_every_link_of_a_page_leads_to_a_file(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_readmes_two_commands_and_what_ci_runs():
    readme = (HOUSE / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    commands = re.findall(r"^make [\w-]+", (HOUSE / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands == ["make test", "make test-all", "make demo"]
    assert os.access(HOUSE / ".ci" / "run", os.X_OK)


@pytest.fixture
def checkout(tmp_path):
    """The files that an installation depends on."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((HOUSE / name).read_bytes())
    (tmp_path / ".venv").mkdir()
    return tmp_path


def stamp(checkout: Path, *names: str, build: str = "cpu") -> None:
    (checkout / ".venv" / ".torch").write_text(build)
    for name in names:
        (checkout / ".venv" / name).touch()


def test_installing_is_done_once(checkout):
    """With a stamp that is newer than what it depends on, make has nothing to do, and needs no network."""
    stamp(checkout, ".installed")
    assert "pip install" not in dry_run(checkout, "install")
    os.utime(checkout / ".venv" / ".installed", (0, 0))
    assert "pip install" in dry_run(checkout, "install")


def test_the_demo_installs_what_a_run_needs_and_tests_what_they_need(checkout):
    assert "'.[clouds]'" in dry_run(checkout, "demo")
    assert "dev" not in dry_run(checkout, "demo")
    assert "'.[dev,clouds,dask]'" in dry_run(checkout, "test")
    stamp(checkout, ".installed")
    assert "pip install" in dry_run(checkout, "test")


def test_an_environment_for_tests_also_serves_the_demo(checkout):
    assert "touch .venv/.installed .venv/.developed" in dry_run(checkout, "develop")
    stamp(checkout, ".installed", ".developed")
    assert "pip" not in dry_run(checkout, "develop") + dry_run(checkout, "demo")


def test_only_another_build_of_torch_that_is_named_replaces_the_one_installed(checkout):
    assert "uninstall" not in dry_run(checkout, "install")
    stamp(checkout, ".installed", build="cuda")
    assert "pip" not in dry_run(checkout, "install") + dry_run(checkout, "install", "TORCH=cuda")
    changed = dry_run(checkout, "install", "TORCH=cpu")
    assert changed.index("uninstall") < changed.index("--index-url") < changed.index("'.[clouds]'")
    stamp(checkout, ".installed", build="cpu")
    changed = dry_run(checkout, "install", "TORCH=cuda")
    assert "uninstall" in changed
    assert "--index-url" not in changed


def test_a_build_of_torch_that_does_not_exist_is_one_line(checkout):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        dry_run(checkout, "install", "TORCH=gpu")
    assert "TORCH=gpu: expected cpu or cuda" in caught.value.stderr


def make_torch(checkout: Path, index: str) -> str:
    """Choose the build of torch, with a pip that knows no other index and installs into a folder."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(f'#!/bin/sh\ncase "$*" in *--upgrade*) exit 0;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    others = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_TARGET": str(checkout / "site"), "PIP_NO_CACHE_DIR": "1"}
    command = ["make", ".venv/.torch", f"PYTHON={sys.executable}", f"TORCH_INDEX={index}"]
    done = subprocess.run(command, cwd=checkout, env=others | pip, capture_output=True, text=True, check=True)
    assert (checkout / ".venv" / ".torch").read_text() == "cpu\n"
    return done.stdout


def wheel(index: Path, name: str, version: str) -> None:
    folder = index / name
    folder.mkdir(parents=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's build is that for processors")
def test_torch_is_the_build_for_processors_where_its_index_answers(checkout, pins):
    index = checkout / "index"
    for name in ("torch", "torchvision"):
        wheel(index, name, f"{pins[name]}+cpu")
    with file_server(index) as server:
        said = make_torch(checkout, server.url)
    assert {path.name for path in (checkout / "site").glob("*.dist-info")} == {
        f"torch-{pins['torch']}+cpu.dist-info",
        f"torchvision-{pins['torchvision']}+cpu.dist-info",
    }
    assert "\nNo build" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's build is that for processors")
def test_an_index_that_fails_or_lacks_the_version_leaves_torch_to_pypi_after_one_request(checkout):
    index = checkout / "index"
    wheel(index, "torch", "1.0+cpu")
    with file_server(index) as server:
        assert "\nNo build of PyTorch for processors at http" in make_torch(checkout, server.url)
        (checkout / ".venv" / ".torch").unlink()
        server.asked.clear()
        server.faults["/torch/"] = ["503"] * 9
        assert "\nNo build of PyTorch for processors at http" in make_torch(checkout, server.url)
        assert server.asked["/torch/"] == 1
    assert not (checkout / "site").exists()


def dry_run(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["make", "--dry-run", *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_the_demo_uses_files_that_exist():
    commands = (HOUSE / "Makefile").read_text()
    for name in re.findall(r"configs/[\w.]+", commands):
        assert (HOUSE / name).is_file()
    assert "PREFECT_SERVER_ANALYTICS_ENABLED := false" in commands
    assert "DO_NOT_TRACK := 1" in commands


def test_the_container_takes_only_what_is_there():
    for line in (HOUSE / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY") and "--from" not in line:
            _, *sources, _ = line.split()
            assert all((HOUSE / source).exists() for source in sources)
    assert "USER truckscape" in (HOUSE / "Dockerfile").read_text()


def test_licence_is_apache_2_in_full(project):
    text = (HOUSE / "LICENSE").read_text()
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_changelog_names_the_version(project):
    assert f"## [{project['version']}]" in (HOUSE / "CHANGELOG.md").read_text()


def test_prefect_yaml_is_understood_by_prefect():
    from prefect.cli.deploy._models import PrefectYamlModel

    tree = yaml.safe_load((HOUSE / "prefect.yaml").read_text())
    model = PrefectYamlModel.model_validate(tree)
    assert model.deployments
    for deployment in model.deployments:
        assert deployment.schedules
        assert deployment.work_pool is not None


def test_schedules_with_placeholders_are_deployed_paused():
    tree = yaml.safe_load((HOUSE / "prefect.yaml").read_text())
    schedules = [schedule for deployment in tree["deployments"] for schedule in deployment["schedules"]]
    assert [schedule["active"] for schedule in schedules] == [False, False]


def test_prefect_yaml_fits_its_flows():
    """Every deployment names a flow that loads, and gives it parameters that it takes."""
    from prefect.flows import load_flow_from_entrypoint

    tree = yaml.safe_load((HOUSE / "prefect.yaml").read_text())
    for deployment in tree["deployments"]:
        path, _, _ = deployment["entrypoint"].partition(":")
        assert (HOUSE / path).is_file()
        flow = load_flow_from_entrypoint(f"{HOUSE}/{deployment['entrypoint']}")
        assert flow.validate_parameters(deployment["parameters"])


PLAIN_DATA = {
    "operations/checks/finding", "run/request", "scenes/readers/reader", "training/detector/settings",
    "training/segmenter/settings", "training/sources", "simulation/world/objects", "simulation/world/spectra",
}  # fmt: skip
TESTED_WITH_THEIR_CALLERS = {
    "evaluation/trucks/intervals", "flows/prefect_server", "operations/attempt", "operations/request",
    "operations/takeover", "report/charts", "report/map", "report/template", "report/truck_table",
    "scenes/download", "scenes/raster/datasets", "simulation/world/buildings",
    "simulation/world/landscape", "simulation/world/layout", "storage/object_store",
    "training/checkpoints", "training/detector/chips", "training/detector/held_out",
    "training/learning_curve", "validation/timing",
}  # fmt: skip
"""A list to shorten: a module leaves it when it gets a test file of its own."""


def test_tests_mirror_modules():
    modules = [*(HOUSE / "pipeline").rglob("*.py"), *(HOUSE / "flows").glob("*.py")]
    for module in modules:
        name = module.relative_to(HOUSE).with_suffix("").as_posix().removeprefix("pipeline/")
        if module.name.startswith("__") or name in PLAIN_DATA | TESTED_WITH_THEIR_CALLERS:
            continue
        folder, _, own = name.rpartition("/")
        test = HOUSE / "tests" / folder / f"test_{own}.py"
        assert test.is_file(), f"{module.relative_to(HOUSE)} has no {test.relative_to(HOUSE)}"


def test_data_files_are_in_the_package():
    patterns = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {file for pattern in patterns["pipeline"] for file in (HOUSE / "pipeline").glob(pattern)}
    data = {file for file in (HOUSE / "pipeline").rglob("*") if file.is_file()}
    assert not {file for file in data - packed if file.suffix not in (".py", ".pyc")}
