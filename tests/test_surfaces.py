"""Text of others on every surface: data, and never markup, control sequences, formulas or formats."""

import io
import json
import logging
import os
import sys
from xml.etree import ElementTree

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.cli.console import console
from pipeline.errors import TruckscapeError
from pipeline.layers.columns import TEXT
from pipeline.layers.formats.export import write_formats
from pipeline.layers.styles import landcover_style
from pipeline.logs import PlainLines, log_to
from pipeline.models.legend import LegendClass
from pipeline.operations.hooks import on_failure
from pipeline.printable import no_formula, printable, printable_lines, storable
from pipeline.report.markdown import code, plain
from pipeline.report.template import environment, for_script

NASTY = (
    "[bold]x[/bold] [link=http://127.0.0.1:9]y[/link] :smile:",
    "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "a\rb\x00c\x7fd\x08e",
    "![x](http://127.0.0.1:9/beacon.png) [a](javascript:alert(1))",
    "<img src=x onerror=alert(1)><script>alert(1)</script></script><!--",
    "| a | b |\n|---|---|\n```\ncode\n```\n# head",
    "\"' onmouseover=alert(1) x='",
    "{token} {0.__class__} %s %(name)s %n {{ 7 * 7 }} {% raw %}",
    "$\\frac{1}$ $x",
    "[% 1 + 1 %]",
    "=HYPERLINK(1) +1 @x -2",
    "half \ud800 pair \udcff",
    "\u202egnp.exe \u2028 line \u2066",
    "https://127.0.0.1:9/x www.example.com a@example.com",
    "`rm -rf /`; $(reboot) && echo",
)
each_text = pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))


def has_controls(text: str) -> bool:
    return any(char in text for char in "\x00\x07\x08\x1b\x7f\x9b\r\u202e\u2028\u2066\ud800\udcff")


def has_surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


@each_text
def test_terminals(text):
    stream = io.StringIO()
    console(file=stream, force_terminal=True, color_system="truecolor", width=200).print(text)
    assert not has_controls(stream.getvalue())
    record = logging.LogRecord("pipeline", logging.WARNING, "", 1, text, None, None)
    assert PlainLines().format(record) == printable_lines(text)
    assert str(TruckscapeError(text)) == printable(text)


@each_text
def test_logs(tmp_path, text):
    with log_to(tmp_path / "log.jsonl"):
        logging.getLogger("pipeline.test").info(text)
        logging.getLogger("pipeline.test").info("%s", text)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["message"] for line in lines] == [text, text]


@each_text
def test_markdown(text):
    shown = plain(text)
    assert "\n" not in shown and not has_controls(shown)
    unescaped = shown.replace("\\\\", "")
    for markup in ("[", "]", "<", "|", "`", "*", "!", "://", "@", "www."):
        assert unescaped.count(markup) == unescaped.count(f"\\{markup}")
    span = code(text)
    fence = span[: len(span) - len(span.lstrip("`"))]
    assert span.endswith(fence) and fence not in span.strip("`").split(" ")


@each_text
def test_pages(text):
    template = environment().from_string(
        "<p title='{{ text }}'>{{ text }}</p><script>{{ for_script({'a': text}) }}</script>"
    )
    page = template.render(text=text)
    assert page.count("<") == 4
    assert page.partition("<script>")[0].count("'") == 2
    script = page.partition("<script>")[2].removesuffix("</script>")
    assert json.loads(script) == {"a": text}
    assert "<" not in for_script(text)


@each_text
def test_styles(text):
    if has_surrogates(text):
        return  # no card has them
    legend = [LegendClass(value=1, name=text, colour="#123456")]
    root = ElementTree.fromstring(landcover_style(legend).encode())  # noqa: S314 (our own)
    labels = [element.get("label") for element in root.iter() if element.get("label") is not None]
    assert labels and all("[%" not in label and label == storable(label) for label in labels)


@each_text
def test_vector_files(tmp_path, text):
    values = TEXT.convert(pd.Series([text, None, "plain"], dtype=object))
    if not has_surrogates(text):  # Arrow's strings have none
        assert list(TEXT.convert(pd.Series([text, None, "plain"])).dropna()) == list(values.dropna())
    layer = gpd.GeoDataFrame(
        {"name": values}, geometry=[shapely.Point(i, 1) for i in range(3)], crs="EPSG:4326"
    )
    paths = write_formats({"roads": layer}, tmp_path, ["parquet", "geojson", "flatgeobuf"])
    for path in paths.values():
        read = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
        assert set(read["name"].dropna()) == {storable(text), "plain"}


@each_text
def test_pictures(text):
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_title(no_formula(text).encode("ascii", "replace").decode().expandtabs())
    FigureCanvasAgg(figure).draw()


@each_text
def test_commands(tmp_path, text):
    script = (
        "import json, os, sys; names = ('SCENE', 'HREF', 'REASON'); "
        "json.dump([os.environ['TRUCKSCAPE_' + name] for name in names], open(sys.argv[1], 'w'))"
    )
    on_failure([sys.executable, "-S", "-c", script, str(tmp_path / "out")], text, text, text)
    assert json.loads((tmp_path / "out").read_text()) == [printable(text)] * 3
    assert "TRUCKSCAPE_REASON" not in os.environ
