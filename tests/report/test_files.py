import pytest

from pipeline.report.files import file_links


@pytest.fixture
def folder(tmp_path):
    """Files of a run of the scene "a #1", whose record is written after its page."""
    folder = tmp_path / "a #1"
    (folder / "evaluation").mkdir(parents=True)
    (folder / "trucks.gpkg").write_bytes(bytes(250_000))
    (folder / "trucks.geojson").write_bytes(bytes(2_400))
    (tmp_path / "traffic.parquet").mkdir()
    (tmp_path / "traffic.parquet" / "a.parquet").write_bytes(b"1")
    return folder


def files(folder):
    names = ("trucks.gpkg", "landcover.qml", "report.html", "trucks.geojson", "run.json", "own.tif")
    return [*(folder / name for name in names), folder.parent / "traffic.parquet" / "a.parquet"]


def links(folder, page):
    return {
        content: [(link.href, link.size) for link in there]
        for content, there in file_links(files(folder), page)
    }


def test_files_of_one_content_are_together_and_styles_and_pages_are_left_out(folder):
    assert links(folder, folder / "report.html") == {
        "trucks": [("trucks.gpkg", "0.2 MB"), ("trucks.geojson", "2 kB")],
        "record of the run: inputs, settings, versions": [("run.json", "")],
        "own": [("own.tif", "")],
        "traffic of this scene in the table of all scenes": [("../traffic.parquet/a.parquet", "1 kB")],
    }


def test_links_lead_from_any_page_to_the_files(folder):
    page = folder / "evaluation" / "report.html"
    assert links(folder, page)["trucks"][0][0] == "../trucks.gpkg"
    assert links(folder, folder.parent / "index.html")["trucks"][0][0] == "a%20%231/trucks.gpkg"
