"""A `crs` that is a link is refused, in every spelling that GDAL takes for it; others are not."""

import pytest

from pipeline.errors import VectorFileError
from pipeline.storage.geojson import check_crs
from pipeline.storage.untrusted_vectors import read_layer
from tests.servers import file_server

POINT = '{"type":"Feature","properties":{"a":1},"geometry":{"type":"Point","coordinates":[1,2]%s}}'
COLLECTION = '{"type":"FeatureCollection"%s,"features":[%s]}'
LINK = '{"type":"link","properties":{"href":"http://127.0.0.1:9/crs"}}'


def check(text, size=2**22):
    raw = text.encode("latin-1")
    check_crs((raw[at : at + size] for at in range(0, len(raw), size)), "Roads can't be read: a.geojson")


@pytest.mark.parametrize(
    "key",
    ['"crs"', '"CRS"', r'"cr\u0073"', r'"\u0043rs"', r'"crs\u0000x"', '"crs\0x"', "'crs'", '"crs"/**/'],
)
def test_a_link_in_any_spelling_is_refused(key):
    with pytest.raises(VectorFileError, match="link to a server"):
        check(COLLECTION % (f",{key}:{LINK}", POINT % ""))


@pytest.mark.parametrize(
    "value",
    [
        '{"type":"url","properties":{"url":"HTTP://127.0.0.1:9/crs"}}',
        r'{"type":"LINK","properties":{"href":"http:\/\/127.0.0.1:9"}}',
        r'{"type":"link","properties":{"href":"http\u003a//127.0.0.1:9"}}',
        '{"type":"link","type":"name","properties":{"href":"http://127.0.0.1:9"}}',
        '{"typE":"link","type":"name","properties":{"href":"http://127.0.0.1:9"}}',
        "{'type':'link'}",
        '{"a":' + "[" * 70_000,
        " " * 70_000 + LINK,
    ],
)
def test_what_may_be_a_link_is_refused(value):
    with pytest.raises(VectorFileError, match="link to a server"):
        check(COLLECTION % (f',"crs":{value}', POINT % ""))


@pytest.mark.parametrize(
    "member",
    [
        ',"crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::25832"}}',
        ',"crs" : { "type": "name", "properties": { "name": "http://www.opengis.net/def/crs/OGC/0/CRS84" }}',
        ',"crs":{"type":"EPSG","properties":{"code":25832}}',
        ',"crs":null',
        ',"crs":"EPSG:4326"',
        ',"name":"crs"',
        ',"keys":["crs","CRS"]',
    ],
)
def test_a_name_and_other_texts_are_not(member):
    check(COLLECTION % (member, POINT % ""))


def test_a_link_across_parts_of_the_file_is_found():
    filler = '"x":"' + "a" * 70_000 + '",'
    text = "{" + filler * 3 + f'"crs":{LINK},' + filler * 3 + '"features":[]}'
    for size in (1000, 65_536, 65_537, 210_000):
        with pytest.raises(VectorFileError, match="link to a server"):
            check(text, size)


@pytest.mark.parametrize("name", ["a.geojson", "a.geojsonl", "a.topojson"])
def test_no_server_is_asked(tmp_path, name):
    with file_server(tmp_path) as server:
        link = f',"crs":{{"type":"link","properties":{{"href":"{server.url}/crs"}}}}'
        text = {
            "a.geojson": COLLECTION % ("", POINT % link),
            "a.geojsonl": f"{POINT % link}\n{POINT % ''}\n",
            "a.topojson": f'{{"type":"Topology"{link},"objects":{{}},"arcs":[]}}',
        }[name]
        (tmp_path / name).write_text(text)
        with pytest.raises(VectorFileError, match="link to a server"):
            read_layer(tmp_path / name, "Roads", "points")
        assert not server.asked
