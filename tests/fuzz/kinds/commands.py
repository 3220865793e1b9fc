"""Values on the command line."""

from __future__ import annotations

from tests.fuzz.damage import NUMBERS, TEXTS
from tests.fuzz.trial import ANY, ENGINE, Kind, Mutation, Trial


def _prepare(trial: Trial, _: str) -> None:
    trial.corpus.copy("tif/deflate/20230824T102031.tif", trial.box.inputs)
    trial.argv = ["run", "in/20230824T102031.tif", "--out", "out", *ENGINE]
    trial.baseline = "tif"


def _option(name: str, *further: str, differs: bool = True) -> Mutation:
    def change(trial: Trial) -> None:
        numbers = [str(number) for number in NUMBERS]
        value = trial.rng.choice(trial.rng.choice((numbers, [*TEXTS], [*further]))).replace("\x00", "")
        trial.argv.append(f"{name}={value}")
        trial.note = f"{name}={value}"[:120]
        if differs:
            trial.may_differ |= ANY

    return change


def scene(trial: Trial) -> None:
    """Name something that is no scene."""
    trial.argv[1] = trial.rng.choice(
        (
            "..", ".", "/", "in", "nowhere.tif", "~nobody/x.tif", "x" * 5000, "http://[::1", "http://",
            "file:///x", "s3://",
            "s3://bucket", "/vsizip/in/x.zip", "/vsicurl/http://127.0.0.1:1/x.tif",
            "GTIFF_DIR:1:in/20230824T102031.tif",
            "in/20230824T102031.tif:x", "in/20230824T102031.tif/", "", " ", "\u202ex", "in/*.tif", "http://127.0.0.1:1/x.json",
            "https://user:secret@127.0.0.1:1/x.json?sig=abc", "ftp://127.0.0.1/x", "\udcff\udcfe.tif",
            "<VRTDataset/>", "/dev/null",
            "../../beside/secret.json", "/dev/zero", "/proc/self/mem",
        )
    )  # fmt: skip
    trial.note = trial.argv[1][:80]
    trial.may_read = {"secret.json"}  # a user who names it may see its id


def out(trial: Trial) -> None:
    """Name a place where nothing can be written."""
    value = trial.rng.choice(
        (
            "in/20230824T102031.tif",
            "/dev/null",
            "/proc/x",
            "out/" + "x" * 300,
            "out/\udcff",
            "out/a b!*?[]{};'",
        )
    )
    trial.argv[3], trial.note = value, ascii(value)[:80]


OPTIONS = Kind(
    "options",
    _prepare,
    {
        "scale": _option("--scale", "0.0001", "1e-4", "0x1", "1,5"),
        "offset": _option("--offset", "-0.1", "0", "-0,1"),
        "nodata": _option("--nodata", "none", "0", "NONE", "0.5"),
        "bands": _option("--bands", "B02,B03,B04,B08", "B02,B02,B03,B04", "-,-,-,-", "SCL,B02,mask,B03", ","),
        "acquired": _option(
            "--acquired", "2023-08-24", "2023-06-13T10:20:31Z", "9999-12-31T23:59:59-14:00", differs=False
        ),
        "scene": scene,
        "out": out,
    },
)
