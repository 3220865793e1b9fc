"""Roads from an Overpass server: a small real one, on this machine."""

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from pipeline.errors import RoadsError, RoadsUnreachableError
from pipeline.roads import overpass as module
from pipeline.roads.overpass import overpass_roads
from pipeline.roads.read import read_roads
from tests.servers import slow_server

GRID = GeoBox((100, 200), Affine(10, 0, 600_000, 0, -10, 5_800_000), "EPSG:32632")
OSM = b"""<?xml version="1.0" encoding="UTF-8"?>
<osm version="0.6" generator="Overpass API">
<note>The data is from www.openstreetmap.org. It is made available under ODbL.</note>
<node id="1" lat="52.34" lon="10.47"/><node id="2" lat="52.34" lon="10.48"/>
<way id="7"><nd ref="1"/><nd ref="2"/><tag k="highway" v="motorway"/></way>
</osm>
"""
CUT = OSM[:-1] + b" "
TIMED_OUT = OSM.replace(
    b"</osm>", b"<remark> runtime error: Query timed out in &quot;query&quot; </remark></osm>"
)


@pytest.fixture
def overpass():
    """Answers with a list of (status, body) in turn, and remembers what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            server.asked.append((form["data"][0], self.headers["User-Agent"]))
            status, body, *asked_to_wait = server.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (100 if status == 200 and body is CUT else 0)))
            for seconds in asked_to_wait:
                self.send_header("Retry-After", seconds)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/api/interpreter"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(server, folder, grid=GRID, **changes):
    return overpass_roads(grid, folder, url=server.url, **{"backoff_s": 0.001, **changes})


def test_a_busy_server_is_asked_again_and_an_answer_is_kept(overpass, tmp_path):
    overpass.answers = [(429, b""), (504, b"busy"), (200, OSM)]
    path = fetch(overpass, tmp_path / "roads")
    assert len(overpass.asked) == 3
    assert overpass.asked[0][1].startswith("truckscape/")
    assert read_roads(path, GRID.crs)["road_id"].tolist() == ["7"]
    assert fetch(overpass, tmp_path / "roads") == path
    assert len(overpass.asked) == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_query_holds_the_scene_and_its_margin(overpass, tmp_path):
    west, south, east, north = transform_bounds(GRID.crs, "EPSG:4326", *GRID.extent.boundingbox.bbox)
    overpass.answers = [(200, OSM), (200, OSM)]
    fetch(overpass, tmp_path)
    fetch(overpass, tmp_path, margin_m=5000.0)
    (query, _), (wider, _) = overpass.asked
    assert query.startswith("[out:xml][timeout:25];")  # the server gives up before we do
    assert 'way["highway"~"^(motorway|motorway_link|trunk|' in query
    assert f"({south:.5f},{west:.5f},{north:.5f},{east:.5f})" in query
    assert query != wider


def test_across_the_antimeridian_there_are_two_boxes(overpass, tmp_path):
    overpass.answers = [(200, OSM)]
    fetch(overpass, tmp_path, GeoBox((100, 2000), Affine(10, 0, 170_000, 0, -10, 8_000_000), "EPSG:32701"))
    assert overpass.asked[0][0].count("180.00000") == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, b"parse error"), "HTTP status 400"),
        ((200, TIMED_OUT), "ran out of time. Raise traffic.overpass_wait_s"),
        ((200, TIMED_OUT.replace(b"timed out", b"run out of memory")), "incomplete"),
        ((200, OSM[:-10]), "incomplete"),
        ((200, CUT), "doesn't answer"),  # the connection ends before the promised length
        ((200, b"<osm>" + b"<a>" * 20 + b"</a>" * 20 + b"</osm>"), "incomplete"),
        ((200, b"<osm>" + b"<a>" * 2**20 + b"</osm>"), "incomplete"),  # GDAL would take 150 MB
        ((200, b'{"a":' * 2**20 + b"</osm>"), "incomplete"),
        ((200, OSM.replace(b"<node", b"&x;<node", 1)), "incomplete"),
    ],
)
def test_what_is_not_whole_is_not_kept(overpass, tmp_path, answer, said):
    overpass.answers = [answer]
    with pytest.raises(RoadsError, match=said):
        fetch(overpass, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_end_is_left(overpass, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 2**20)
    overpass.answers = [(200, OSM + bytes(2**21))]
    with pytest.raises(RoadsError, match="is larger than 1 MB"):
        fetch(overpass, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_redirects_without_end_are_left_in_time(tmp_path):
    begun = time.monotonic()
    with slow_server("redirects") as url, pytest.raises(RoadsUnreachableError, match=r"answer in 0.7 s"):
        overpass_roads(GRID, tmp_path, url=url, wait_s=0.7)
    assert time.monotonic() - begun < 3
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_stays_busy_is_told_of(overpass, tmp_path):
    overpass.answers = [(429, b"")] * 6
    said = r"HTTP status 429; try later, set traffic.overpass_url to another server, or give --roads a file\."
    with pytest.raises(RoadsUnreachableError, match=said):
        fetch(overpass, tmp_path)
    assert len(overpass.asked) == 6


def test_a_server_that_asks_to_come_back_later(overpass, tmp_path):
    """Its pause is respected if it is within the limit, else it is an error at once."""
    overpass.answers = [(429, b"", "0"), (200, OSM), (504, b"", "86400")]
    assert fetch(overpass, tmp_path, backoff_s=1000.0).is_file()
    with pytest.raises(RoadsUnreachableError, match="is busy"):
        fetch(overpass, tmp_path / "other")
    assert overpass.answers == []


def test_the_kept_answer_does_not_depend_on_the_wait(overpass, tmp_path):
    overpass.answers = [(200, OSM)]
    assert fetch(overpass, tmp_path) == fetch(overpass, tmp_path, wait_s=100.0)


@pytest.mark.parametrize("drops", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n\r\n<osm"])
def test_a_server_that_never_answers_is_left_in_time(tmp_path, drops):
    """It accepts, and sends nothing, or a byte now and then, in its head or after it."""
    end = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(drops)
            while drops and not end.wait(0.05):
                connection.sendall(b" ")
            end.wait()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        begun = time.monotonic()
        with pytest.raises(RoadsUnreachableError, match=r"didn't answer in 0.4 s .*or give --roads a file"):
            overpass_roads(GRID, tmp_path, url=url, wait_s=0.4)
        assert time.monotonic() - begun < 2
        end.set()
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_no_server(tmp_path):
    with pytest.raises(RoadsError, match="doesn't answer"):
        overpass_roads(GRID, tmp_path, url="http://127.0.0.1:9/api", backoff_s=0.001)
    assert list(tmp_path.iterdir()) == []
