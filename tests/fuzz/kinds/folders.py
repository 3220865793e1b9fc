"""What lies in folders: ledgers, earlier outputs, odd names, bad neighbours."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.fuzz import damage
from tests.fuzz.corpus import NAME
from tests.fuzz.damage import BYTES, TEXTS
from tests.fuzz.trial import ANY, BATCH, ENGINE, Kind, Trial

_TIF = "20230824T102031.tif"


def _prepare_ledger(trial: Trial, variant: str) -> None:
    """Take the folder of a batch that was done."""
    shutil.copytree(trial.corpus.root / "batch", trial.box.out, dirs_exist_ok=True)
    trial.corpus.copy(f"tif/deflate/{_TIF}", trial.box.inputs)
    trial.stops_at_error = False
    trial.argv = ["status", "out", "--all"]
    if variant == "batch":
        trial.argv = ["batch", f"in/{_TIF}", "--out", "out", *BATCH]
        trial.baseline = "tif"


def ledger_bytes(trial: Trial) -> None:
    file, name = trial.box.out / "ledger.sqlite", trial.rng.choice([*BYTES])
    file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
    trial.note = name


_STATEMENTS = (
    'DROP TABLE "{table}"',
    'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO x',
    'DELETE FROM "{table}"',
    'ALTER TABLE "{table}" ADD COLUMN y',
    'ALTER TABLE "{table}" RENAME TO z',
    "PRAGMA user_version = 77",
)


def ledger_value(trial: Trial) -> None:
    """Change a value in a row, or the structure of the table."""
    with closing(sqlite3.connect(trial.box.out / "ledger.sqlite", isolation_level=None)) as base:
        tables = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = trial.rng.choice(tables)
        columns = [row[1] for row in base.execute(f'PRAGMA table_info("{table}")')]
        column = trial.rng.choice(columns)
        value = damage.absurd(trial.rng)
        if isinstance(value, list | dict | bool) or (isinstance(value, int) and abs(value) >= 2**63):
            value = b"\xff\x00"
        if isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
        statement, values = 'UPDATE "{table}" SET "{column}" = ?', (value,)
        if trial.rng.random() < 0.3:
            statement, values = trial.rng.choice(_STATEMENTS), ()
        statement = statement.format(table=table, column=column)
        trial.note = f"{statement} {values!r}"[:150]
        try:
            base.execute(statement, values)
        except sqlite3.Error as error:
            trial.note += f": {error}"


def ledger_kind(trial: Trial) -> None:
    """Put something else in place of the ledger."""
    file = trial.box.out / "ledger.sqlite"
    file.unlink()
    choice = trial.rng.choice(("folder", "loop", "secret", "empty", "wal", "missing"))
    trial.note = choice
    if choice == "folder":
        file.mkdir()
    elif choice == "loop":
        file.symlink_to(file)
    elif choice == "secret":
        file.symlink_to(trial.box.beside / "secret.txt")
        trial.may_read = {"secret.txt"}
    elif choice == "empty":
        file.touch()
    elif choice == "wal":
        file.with_name("ledger.sqlite-wal").write_bytes(bytes(trial.rng.randrange(256) for _ in range(100)))


LEDGER = Kind(
    "ledger",
    _prepare_ledger,
    {
        "ledger_bytes": ledger_bytes,
        "ledger_value": ledger_value,
        "more_values": ledger_value,
        "ledger_kind": ledger_kind,
    },
    ("status", "batch"),
)


def _prepare_outputs(trial: Trial, _: str) -> None:
    """Take the folder of a run that was done, and repeat the run."""
    shutil.copytree(trial.corpus.root / "run", trial.box.out, dirs_exist_ok=True)
    trial.corpus.copy(f"tif/deflate/{_TIF}", trial.box.inputs)
    trial.argv = ["run", f"in/{_TIF}", "--out", "out", *ENGINE]
    trial.baseline = "tif"


def _documents(trial: Trial) -> list[Path]:
    return sorted(path for path in trial.box.out.rglob("*.json") if path.is_file())


def document(trial: Trial) -> None:
    """Change one field of a record, an item or the catalogue."""
    file = trial.rng.choice(_documents(trial))
    tree, path, new = damage.damage_json(json.loads(file.read_text(encoding="utf-8")), trial.rng)
    trial.note = f"{file.name} {path} {new!r}"[:150]
    file.write_bytes(json.dumps(tree).encode("utf-8", "surrogatepass"))


def outputs_elsewhere(trial: Trial) -> None:
    """Let the record of the former run name files of others as its outputs."""
    (file,) = trial.box.out.glob("*/run.json")
    tree = json.loads(file.read_text(encoding="utf-8"))
    names = [
        "../../../beside/secret.txt", str(trial.box.beside / "secret.csv"), "..", "../..", "", ".", "/",
        "../../in", 5, None,
        "../../in/20230824T102031.tif", "../catalog.json", "evaluation", "\x00", "x" * 5000, ["a"], {"a": 1},
    ]  # fmt: skip
    chosen = trial.rng.sample(names, 3)
    outputs = tree.get("outputs")
    tree["outputs"] = (
        {str(number): name for number, name in enumerate(chosen)} if isinstance(outputs, dict) else chosen
    )
    tree["evaluation"] = trial.rng.choice((None, "../../..", chosen))
    trial.note = f"{chosen}"[:150]
    file.write_text(json.dumps(tree), encoding="utf-8")


def output_bytes(trial: Trial) -> None:
    """Damage any file of the former run."""
    file = trial.rng.choice(sorted(path for path in trial.box.out.rglob("*") if path.is_file()))
    name = trial.rng.choice([*BYTES])
    file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
    trial.note = f"{name} {file.name}"


def shard(trial: Trial) -> None:
    """Damage the shard that the run would take up."""
    (file,) = trial.box.out.glob("*/.shards/*.npz")
    name = trial.rng.choice([*BYTES])
    file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
    trial.note = name


def strange_output(trial: Trial) -> None:
    """Put a folder, a link or a pipe where an output goes."""
    file = trial.rng.choice(sorted(path for path in trial.box.out.rglob("*") if path.is_file()))
    file.unlink()
    choice = trial.rng.choice(("folder", "link", "loop", "pipe", "link to a folder"))
    trial.note = f"{file.name} {choice}"
    if choice == "folder":
        (file / "x").mkdir(parents=True)
    elif choice == "pipe":
        os.mkfifo(file)
    else:
        target = {"link": trial.box.beside / "secret.txt", "loop": file}.get(choice, trial.box.beside)
        file.symlink_to(target)
        trial.may_read = {"secret.txt"}


OUTPUTS = Kind(
    "outputs",
    _prepare_outputs,
    {
        "document": document,
        "more_documents": document,
        "outputs_elsewhere": outputs_elsewhere,
        "output_bytes": output_bytes,
        "shard": shard,
        "strange_output": strange_output,
    },
)

_NAMES = (
    "..", "...", ".", ".hidden", "catalog.json", "traffic.parquet", "ledger.sqlite", "collection.json",
    "run.json", "evaluation",
    "CON", "nul", "a b", "a:b", "!x!", "a?b", "a#b", "a%20b", "%2e%2e", "a'b",
    'a"b', "a;b", "a&b", "{a}", "[a]", "*", "~", "-x",
    "--help", "x" * 200, "é" * 100, "\u202eabc", "日本", "\udcff\udcfe", "\x1b[31m", "a\nb", "=1+1", "[red]",
    "<b>", "$(id)",
    "`id`", "a|b", "\\..\\..", "T32UPD_20230824T102031",
    "S2A_MSIL2A_99999999T999999_N9999_R999_T99ZZZ_99999999T999999", "a ", " a",
    "a.", "_", "20230824T256199", "00000000T000000", "٢٠٢٣٠٨٢٤T١٠٢٠٣١", "a\\b", ".shards", ".roads",
    "a.SAFE", "x.tif.zip", "\t",
)  # fmt: skip


def _prepare_names(trial: Trial, variant: str) -> None:
    trial.argv = [variant, "", "--out", "out", *BATCH]
    trial.baseline, trial.stops_at_error = "tif", variant == "run"


def _name(trial: Trial) -> str:
    name = trial.rng.choice(_NAMES) if trial.rng.random() < 0.8 else trial.rng.choice(TEXTS)
    name = name.replace("/", "_").replace("\x00", "").replace("\ud800", "\udc80")
    trial.note = ascii(name)[:60]
    return name[:100]


def _given(trial: Trial, place: str) -> None:
    trial.argv[1] = place
    if trial.argv[0] == "batch" and trial.rng.random() < 0.5:
        trial.argv[1:2] = ["--folder", "in"]


def name_of_stack(trial: Trial) -> None:
    """Give a GeoTIFF an odd name."""
    name = _name(trial) + trial.rng.choice((".tif", ".TIF", ".tiff"))
    shutil.copy(trial.corpus.root / "tif" / "deflate" / _TIF, trial.box.inputs / name)
    _given(trial, f"in/{name}")


def name_of_bands(trial: Trial) -> None:
    """Give the bands in a folder odd names, or the folder."""
    name, folder = _name(trial), trial.box.inputs / "bands"
    folder.mkdir()
    for file in (trial.corpus.root / "bands" / "T32UPD_20230824T102031").iterdir():
        shutil.copy(file, folder / f"{name}_{file.name[-7:]}")
    if trial.rng.random() < 0.3 and name not in (".", ".."):
        folder.rename(folder.with_name(name))
        folder = folder.with_name(name)
    _given(trial, f"in/{folder.name}")


def name_of_product(trial: Trial) -> None:
    """Give a product, as a folder or a zip, an odd name."""
    name, kind = _name(trial), trial.rng.choice((".SAFE", ".zip", ".SAFE.zip", ""))
    source, target = trial.corpus.root / f"{NAME}.SAFE", trial.box.inputs / (name + kind)
    if kind.endswith("zip"):
        shutil.copy(source.with_suffix(".zip"), target)
    elif name not in (".", "..") or kind:
        shutil.copytree(source, target)
    trial.baseline = "safe"
    _given(trial, f"in/{target.name}")


def name_of_item(trial: Trial) -> None:
    """Give a STAC item an odd id."""
    folder = trial.corpus.copy("stac", trial.box.inputs)
    item = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    item["id"] = trial.rng.choice((*_NAMES, *TEXTS)).replace("\udcff\udcfe", "\ud800")
    trial.note = ascii(item["id"])[:60]
    (folder / "item.json").write_text(json.dumps(item), encoding="utf-8")
    trial.argv[1] = "in/stac/item.json"


def name_of_out(trial: Trial) -> None:
    """Write into a folder with an odd name."""
    shutil.copy(trial.corpus.root / "tif" / "deflate" / _TIF, trial.box.inputs)
    trial.argv[1], trial.argv[3] = f"in/{_TIF}", f"out/{_name(trial)}/x"
    trial.baseline = None


NAMES = Kind(
    "names",
    _prepare_names,
    {
        "stack": name_of_stack,
        "bands": name_of_bands,
        "product": name_of_product,
        "item": name_of_item,
        "out": name_of_out,
    },
    ("run", "batch"),
)


def _prepare_neighbours(trial: Trial, _: str) -> None:
    shutil.copy(trial.corpus.root / "tif" / "deflate" / _TIF, trial.box.inputs)
    trial.argv = ["batch", "--folder", "in", "--out", "out", *BATCH]
    trial.baseline, trial.stops_at_error, trial.must_do = "tif", False, 1


def file_beside(trial: Trial) -> None:
    """Put a file that is no scene beside a good one."""
    name = (
        trial.rng.choice(("a", "M\udcfcnchen", "..x", "z", "x y", "\x1b[31m"))
        + trial.rng.choice((".json", ".tif", ".zip", ".SAFE", ".geojson", ".txt", ".jp2", ""))
    )  # fmt: skip
    content = trial.rng.choice(
        (
            b"[" * 100_000, b'{"type":"Feature","assets":{},"id":"\\ud800"}',
            b'{"type":"Feature","assets":{},"id":5}', b"",
            b'{"type":"Feature","stac_version":"1.1.0","id":"../../x","assets":{"B02":{"href":"x"}},"properties":{"datetime":5}}',
            b"PK\x03\x04" + bytes(100), b"II*\x00\xff\xff\xff\xff",
            b'{"type":"FeatureCollection","features":[]}', b"null", b"\xff\xfe",
            b'{"type":"Feature","assets":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", b"9" * 10_000,
        )
    )  # fmt: skip
    trial.note = f"{name!a} {content[:40]!r}"
    (trial.box.inputs / name).write_bytes(content)


def odd_beside(trial: Trial) -> None:
    """Put what is no regular file beside a good scene."""
    ending = trial.rng.choice((".json", ".tif", ".zip", ".SAFE", ""))
    file, choice = (
        trial.box.inputs / f"a{ending}",
        trial.rng.choice(("pipe", "loop", "broken", "folder", "deep", "sparse", "secret")),
    )
    trial.note = f"{choice} {file.name}"
    if choice == "pipe":
        os.mkfifo(file)
    elif choice == "folder":
        (file / "GRANULE").mkdir(parents=True)
    elif choice == "deep":
        file.joinpath(*"abcdefghijklmnopqrstuvwxyz" * 3).mkdir(parents=True)
    elif choice == "sparse":
        with file.open("wb") as made:
            made.truncate(7 << 30)
    else:
        file.symlink_to(
            {"loop": file, "secret": trial.box.beside / "secret.json"}.get(choice, Path("nowhere"))
        )
        trial.may_read = {"secret.json"} if choice == "secret" else set()


def damaged_beside(trial: Trial) -> None:
    """Put a damaged copy of a product beside a good scene."""
    data = (trial.corpus.root / f"{NAME}.zip").read_bytes()
    name = trial.rng.choice([*BYTES])
    (trial.box.inputs / f"{NAME}.zip").write_bytes(BYTES[name](data, trial.rng))
    trial.note, trial.may_differ = name, {*ANY}


def in_list(trial: Trial) -> None:
    """Name nonsense in a list with a good scene."""
    lines = [trial.rng.choice(TEXTS) for _ in range(3)]
    lines += trial.rng.sample(
        ("~nobody/x", "\ud800", "x" * 5000, "http://127.0.0.1:1/x.json", "../..", "/dev/zero", "a\x00b"), 2
    )
    text = "\n".join([*(line.replace("\n", " ") for line in lines), _TIF])
    (trial.box.inputs / "list.txt").write_text(text, encoding="utf-8", errors="surrogatepass")
    trial.argv[1:3] = ["--list", "in/list.txt"]
    trial.note = ascii(lines)[:150]
    trial.may_read = {"secret.txt"}  # some lines name it
    if any("\x00" in line for line in lines):
        trial.must_do, trial.stops_at_error = 0, True  # a list that is no text is none


def in_out(trial: Trial) -> None:
    """Put outputs of others, or no outputs, into `--out`."""
    folder = trial.box.out / trial.rng.choice(("zz", "a b", ".x", "20230824T102031x", "\udcff"))
    folder.mkdir()
    trial.foreign = {folder.name}
    content = trial.rng.choice(
        (
            b"[" * 100_000, b"{}", b"null", b"\xff",
            b'{"outputs": ["../../in/20230824T102031.tif"], "scene": 5}',
            b"9" * 5000,
            b'{"type":"Feature","stac_version":"1.1.0","id":1,"properties":{"datetime":5},"geometry":null,'
            b'"links":[],"assets":{"a":1},"bbox":"x","collection":"truckscape-scenes"}',
            b'{"type":"Feature","id":"x","properties":null,"geometry":{"type":"Point"},"links":5,"assets":null,'
            b'"bbox":[1e999]}',
        )
    )  # fmt: skip
    name = trial.rng.choice(("item.json", "run.json", "metrics.json"))
    (folder / name).write_bytes(content)
    if trial.rng.random() < 0.3:
        other = trial.rng.choice(("catalog.json", "collection.json", "traffic.parquet"))
        (trial.box.out / other).write_bytes(content)
    trial.note = f"{name} {content[:40]!r}"


NEIGHBOURS = Kind(
    "neighbours",
    _prepare_neighbours,
    {
        "file_beside": file_beside,
        "odd_beside": odd_beside,
        "damaged_beside": damaged_beside,
        "in_list": in_list,
        "in_out": in_out,
    },
)
