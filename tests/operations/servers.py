"""A real STAC API on loopback (rustac), and items for it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

PATIENCE_S = 60


@contextmanager
def stac_api(folder: Path, items: list[Mapping[str, Any]]) -> Iterator[str]:
    """The URL of a STAC API that holds items of the collection `sentinel-2-l2a`."""
    rustac = shutil.which("rustac", path=str(Path(sys.executable).parent))
    if rustac is None:
        pytest.skip("needs rustac, a STAC API server (pip install rustac)")
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "sentinel-2-l2a",
        "description": "for tests",
        "license": "other",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }
    for name, content in (
        ("collection.json", collection),
        ("items.json", {"type": "FeatureCollection", "features": items}),
    ):
        (folder / name).write_text(json.dumps(content))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [rustac, "serve", "--addr", address, "collection.json", "items.json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://{address}/", process)
            yield f"http://{address}"
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(url, timeout=5).raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"no STAC API at {url}")


def stac_item(name: str, href: str = "http://127.0.0.1:9", **reported: Any) -> dict[str, Any]:
    """An item at 10 E 52 N with four bands below `href`, as Earth Search has them."""
    west, south = reported.pop("place", (10.0, 52.0))
    ring = [[west, south], [west + 0.1, south], [west + 0.1, south + 0.1], [west, south + 0.1], [west, south]]
    raster = {"nodata": 0, "scale": 0.0001, "offset": -0.1}
    bands = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, west + 0.1, south + 0.1],
        "properties": {
            "datetime": "2023-06-15T10:20:31Z",
            "platform": "sentinel-2a",
            "s2:processing_baseline": "05.09",
        }
        | reported,
        "links": [],
        "assets": {
            key: {
                "href": f"{href}/{band}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "eo:bands": [{"name": band, "common_name": key}],
                "raster:bands": [raster],
                "gsd": 10,
            }
            for band, key in bands.items()
        },
    }
