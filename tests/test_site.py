"""The documentation site: complete and strict; neither the build nor the pages need a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.settings import setting_names

HOUSE = Path(__file__).resolve().parents[1]
OFFLINE = f"""
import socket, sys

def refuse(*arguments, **named):
    raise OSError("the build asks for a network")

socket.socket.connect = socket.getaddrinfo = refuse
sys.path.insert(0, {str(HOUSE)!r})
from mkdocs.__main__ import cli
cli()
"""
pytestmark = [pytest.mark.longer, pytest.mark.timeout(1800)]
LOADED = re.compile(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built by a process that has no network."""
    pytest.importorskip("material", reason="needs mkdocs-material (extra docs: make docs)")
    pytest.importorskip("mkdocstrings", reason="needs mkdocstrings (extra docs: make docs)")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", OFFLINE, "build", "--strict", "--quiet", "--site-dir", str(out)]
    others = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOUSE), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=HOUSE, env=others, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    loaded = {"".join(link) for page in pages for link in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert not {address for address in loaded if re.match(r"(https?:)?//", address)}
    styles = " ".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//|@import", styles)


def test_the_reference_has_every_setting_and_name_of_the_api(site):
    import truckscape

    settings = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    assert not [name for name in setting_names(Config) if f"<code>{name}</code>" not in settings]
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    names = [name for name in truckscape.__all__ if not name.startswith("_")]
    assert not [name for name in names if f'id="truckscape.{name}"' not in python]


def test_links_to_files_of_the_repository_lead_to_copies(site):
    api = (site / "api.html").read_text(encoding="utf-8")
    assert 'href="configs/default.yaml"' in api
    assert 'href="CONTRIBUTING.html"' in api
    assert (site / "configs" / "default.yaml").read_bytes() == (
        HOUSE / "configs" / "default.yaml"
    ).read_bytes()
    assert "truckscape batch" in (site / "reference" / "commands.html").read_text(encoding="utf-8")
