"""STAC items, settings, model cards and weights."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from pipeline.config import Config
from pipeline.settings import setting_names
from tests.fuzz import damage
from tests.fuzz.corpus import NAME
from tests.fuzz.damage import BYTES
from tests.fuzz.trial import ANY, ENGINE, Kind, Mutation, Trial


def _prepare_item(trial: Trial, _: str) -> None:
    trial.corpus.copy("stac", trial.box.inputs)
    trial.argv = ["run", "in/stac/item.json", "--out", "out", *ENGINE]
    trial.baseline = "tif"


def _item(trial: Trial) -> Path:
    return trial.box.inputs / "stac" / "item.json"


def fields(trial: Trial) -> None:
    """Change, repeat or remove one to three fields."""
    tree = json.loads(_item(trial).read_text(encoding="utf-8"))
    for _ in range(trial.rng.choice((1, 1, 1, 3))):
        tree, path, new = damage.damage_json(tree, trial.rng)
        trial.note += f" {path} {new!r}"[:150]
        _explain_item(trial, path, new)
        if not isinstance(tree, dict) or not tree:
            break
    _item(trial).write_bytes(damage.json_text(tree, trial.rng).encode("utf-8", "surrogatepass"))


def _explain_item(trial: Trial, path: tuple[Any, ...], new: Any) -> None:
    """Note which layers another valid value of this field changes."""
    names = [str(part) for part in path]
    is_number = isinstance(new, int | float | str) and _is_finite(new)
    if names[-1] in ("scale", "offset", "nodata", "earthsearch:boa_offset_applied", "s2:processing_baseline"):
        if is_number or new is None:
            trial.may_differ |= ANY
    elif names[-1] in ("raster:bands", "assets", "properties") or "eo:bands" in names:
        trial.may_differ |= ANY
    elif names[0] == "assets" and (len(names) == 2 or names[-1] == "href"):
        trial.may_differ |= ANY  # a band less, or another file
    elif names[-2:] == ["0", "common_name"] or names[-1] == "platform":
        trial.may_differ |= ANY


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def item_bytes(trial: Trial) -> None:
    name = trial.rng.choice([*BYTES])
    _item(trial).write_bytes(BYTES[name](_item(trial).read_bytes(), trial.rng))
    trial.note, trial.may_differ = name, {*ANY}


def addresses(trial: Trial) -> None:
    """Give assets addresses of other files and servers."""
    tree = json.loads(_item(trial).read_text(encoding="utf-8"))
    url, beside = trial.server_url, trial.box.beside
    address = trial.rng.choice(
        (
            f"{url}/B02.tif", f"/vsicurl/{url}/B02.tif", f"{beside}/secret.txt", "../../../beside/secret.txt",
            f"file://{beside}/secret.txt", "/etc/passwd", "GTIFF_RAW:./B02.tif", "<VRTDataset></VRTDataset>",
            f"vrt://{beside}/secret.txt", "s3://", "s3://x", "http://", "http://[::1", "https://127.0.0.1:1/x.tif",
            "ftp://127.0.0.1:1/x.tif", "data:image/tiff;base64,AAAA", "", ".", "..", "./", "./B02.tif?x=1",
            "./B02.tif#x",
            "/dev/zero", "/vsistdin/", "/vsizip/./B02.tif/x", "\x00.tif", "x" * 4000 + ".tif", "\ud800.tif",
            "~/x.tif",
            'NETCDF:"x.nc":y', "WMS:http://127.0.0.1:1/", "/vsisubfile/0_10,B02.tif", "/vsitar/x.tar", "zip+http://x!/y",
        )
    )  # fmt: skip
    keys = [*tree["assets"]] if trial.rng.random() < 0.5 else [trial.rng.choice([*tree["assets"]])]
    for key in keys:
        tree["assets"][key]["href"] = address
    trial.note = f"{len(keys)} assets: {address[:80]!r}"
    trial.may_ask, trial.may_differ = url in address, {*ANY}
    trial.may_read = {"secret.txt"}  # its signature; a file of the user names it
    _item(trial).write_bytes(json.dumps(tree).encode("utf-8", "surrogatepass"))


def rasters(trial: Trial) -> None:
    """Damage a raster of the item."""
    file = trial.rng.choice(sorted(_item(trial).parent.glob("*.tif")))
    name = trial.rng.choice([*BYTES])
    file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
    trial.note = f"{name} {file.name}"
    if name not in ("truncate", "zero_end", "other_content"):
        trial.may_differ |= ANY  # of its header


STAC = Kind(
    "stac",
    _prepare_item,
    {
        "fields": fields,
        "more_fields": fields,
        "item_bytes": item_bytes,
        "addresses": addresses,
        "rasters": rasters,
    },
)

_OF_TRUCKS, _OF_LANDCOVER = {"trucks", "traffic"}, {"landcover"}
_ADDRESSES = (
    "zip://x", "reference://", "ftp://127.0.0.1:1/x", "memory://x", "s3://", "s3:///x", "abc://x", "http://127.0.0.1:1/",
    "github://a:b@c/d", "file://", "::", "s3://x\x00", "simplecache::zip://x", "hdfs://127.0.0.1:1/x", "jupyter://",
)  # fmt: skip


def _prepare_settings(trial: Trial, _: str) -> None:
    trial.corpus.copy(f"{NAME}.SAFE", trial.box.inputs)
    (trial.box.inputs / "settings.yaml").write_text(
        yaml.safe_dump(Config().model_dump(mode="json")), encoding="utf-8"
    )
    trial.argv = ["run", f"in/{NAME}.SAFE", "--out", "out", "--config", "in/settings.yaml", *ENGINE]
    trial.baseline = "safe"


def _explain_setting(trial: Trial, group: str) -> None:
    if group in _OF_TRUCKS:
        trial.may_differ.add("trucks")
    elif group in _OF_LANDCOVER:
        trial.may_differ.add("landcover")
        trial.may_differ.add("trucks")  # their column of the class under them
    elif group in ("scene", "engine", ""):
        trial.may_differ |= ANY


def _setting_value(trial: Trial, name: str) -> Any:
    """Return an absurd value; never a place outside of the sandbox, where a user may write."""
    if name in ("publish.url", "runner.store", "batch.ledger", "runner.address", "traffic.overpass_url"):
        return trial.rng.choice((*_ADDRESSES, 5, [], {"a": 1}, True))
    if name == "batch.on_failure":
        return trial.rng.choice(([], "no-such-command-at-all", [1], {"a": 1}, [[]]))
    if name in ("runner.kind", "engine.backend"):  # no cluster
        return trial.rng.choice(("x", "", 1, None, [], "Threads"))
    return damage.absurd(trial.rng)


def setting(trial: Trial) -> None:
    """Change one to three settings in the file."""
    file = trial.box.inputs / "settings.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name in trial.rng.sample(setting_names(Config), trial.rng.choice((1, 1, 3))):
        value = _setting_value(trial, name)
        group, _, field = name.partition(".")
        if isinstance(tree.get(group), dict):
            tree[group][field] = value
        trial.note += f" {name}={value!r}"[:100]
        _explain_setting(trial, group)
    text = yaml.safe_dump(tree, allow_unicode=False)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))


def set_option(trial: Trial) -> None:
    """Give one setting on the command line."""
    name = trial.rng.choice(setting_names(Config))
    value = _setting_value(trial, name)
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.replace("\x00", "").replace("Infinity", ".inf").replace("NaN", ".nan")
    trial.argv += ["--set", f"{name}={text}"]
    trial.note = f"{name}={text!r}"[:150]
    _explain_setting(trial, name.partition(".")[0])


def yaml_text(trial: Trial) -> None:
    """Write YAML that few expect."""
    text = trial.rng.choice(
        (
            "a: &a [*a]", "a: &a {b: *a}", "x: !!python/object/apply:os.system [id]",
            "tiling: {tile_px: 2001-99-99}", "- a\n- b",
            "trucks: {score_threshold: " + "9" * 5000 + "}", "tiling:\n\ttile_px: 5", "%YAML 9.9\n---\n{}",
            "[" * 5000, "{" * 200,
            "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]",
            "trucks: {score_threshold: 0x7fffffffffffffffffff}", "trucks: {score_threshold: 1:30}",
            "? [a]\n: b", "--- a\n--- b",
            "trucks: {score_threshold: !!float nan}", "trucks: !!set {a}",
            "scene: {acquired: 2001-01-01 25:00:00}", "<<: [1]",
            "trucks: {1: 2}", "trucks: {null: 2}", "true: {a: b}", "trucks: {enabled: 'no'}",
            "tiling: {shards: 1e3}", "!!binary YQ==",
            "trucks: {score_threshold: 190:20:30.15e99999}", "'\\ud800': 1", '"\\ud800": 1',
            "tiling: {tile_px: 512, tile_px: 64}",
        )
    )  # fmt: skip
    (trial.box.inputs / "settings.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    trial.note, trial.may_differ = text[:100], {*ANY}


def settings_bytes(trial: Trial) -> None:
    file = trial.box.inputs / "settings.yaml"
    name = trial.rng.choice([*BYTES])
    file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
    trial.note, trial.may_differ = name, {*ANY}


SETTINGS = Kind(
    "settings",
    _prepare_settings,
    {"setting": setting, "set_option": set_option, "yaml_text": yaml_text, "settings_bytes": settings_bytes},
)


def _prepare_models(trial: Trial, variant: str) -> None:
    trial.corpus.copy(f"{NAME}.SAFE", trial.box.inputs)
    trial.corpus.copy(f"bundles/{variant}", trial.box.inputs)
    trial.argv = ["run", f"in/{NAME}.SAFE", "--out", "out", f"--set={variant}.bundle=in/{variant}", *ENGINE]
    trial.baseline = "safe"


def _bundle(trial: Trial) -> Path:
    return next(path for path in trial.box.inputs.iterdir() if (path / "card.yaml").exists())


def card(trial: Trial) -> None:
    """Change one field of the card."""
    file = _bundle(trial) / "card.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    tree, path, new = damage.damage_json(tree, trial.rng)
    trial.note = f"{path} {new!r}"[:150]
    if isinstance(new, list | str | dict) or new is None or _is_finite(new):
        trial.may_differ |= ANY  # a card is trusted where its values are possible
    file.write_bytes(yaml.safe_dump(tree).encode("utf-8", "surrogatepass"))


def card_bytes(trial: Trial) -> None:
    name = trial.rng.choice([*BYTES])
    file = _bundle(trial) / "card.yaml"
    file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
    trial.note, trial.may_differ = name, {*ANY}


def _weights(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        file = _bundle(trial) / "weights.safetensors"
        file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))

    return change


def signed_weights(trial: Trial) -> None:
    """Write weights that are not numbers, or not of this network, and their hash into the card."""
    file = _bundle(trial) / "weights.safetensors"
    tensors = load_file(file)
    name = trial.rng.choice(sorted(tensors))
    value = trial.rng.choice((math.nan, math.inf, -math.inf, "shape", "remove", "type", "add"))
    trial.note = f"{name} {value}"
    if value == "shape":
        tensors[name] = np.zeros((3, 5), np.float32)
    elif value == "remove":
        del tensors[name]
    elif value == "type":
        tensors[name] = tensors[name].astype(np.float64)
        trial.may_differ |= ANY
    elif value == "add":
        tensors["x"] = np.zeros(1, np.float32)
    elif tensors[name].dtype.kind == "f":
        tensors[name] = np.full_like(tensors[name], value)
    save_file(tensors, file)
    sign(file.parent)


def sign(bundle: Path) -> None:
    """Write the hash of the weights into the card."""
    digest = hashlib.sha256((bundle / "weights.safetensors").read_bytes()).hexdigest()
    card = bundle / "card.yaml"
    card.write_text(re.sub(r"\b[0-9a-f]{64}\b", digest, card.read_text(encoding="utf-8")), encoding="utf-8")


MODELS = Kind(
    "models",
    _prepare_models,
    {
        "card": card,
        "more_of_card": card,
        "card_bytes": card_bytes,
        **{
            f"weights_{name}": _weights(name)
            for name in ("flip_bytes", "truncate", "zero_end", "other_content")
        },
        "signed_weights": signed_weights,
    },
    ("trucks", "landcover"),
)
