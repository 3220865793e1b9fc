"""ESA products: JPEG 2000, metadata, folders, zips."""

from __future__ import annotations

import os
import re
import shutil
import warnings
import zipfile
from pathlib import Path

from tests.fuzz import damage
from tests.fuzz.corpus import NAME
from tests.fuzz.damage import BYTES, XML
from tests.fuzz.trial import ANY, ENGINE, Kind, Mutation, Trial


def _prepare(trial: Trial, variant: str) -> None:
    safe = trial.corpus.copy(f"{NAME}.SAFE", trial.box.inputs)
    if variant == "without checksums":
        (safe / "manifest.safe").unlink()
    trial.argv = ["run", f"in/{NAME}.SAFE", "--out", "out", *ENGINE]
    trial.baseline = "safe"


def _safe(trial: Trial) -> Path:
    return trial.box.inputs / f"{NAME}.SAFE"


def _has_checksums(trial: Trial) -> bool:
    return (_safe(trial) / "manifest.safe").exists()


def _images(trial: Trial) -> list[Path]:
    """Return the images that are read: bands at 10 and 20 m, classification, footprints of detectors."""
    found = [
        *_safe(trial).glob("GRANULE/*/IMG_DATA/R[12]0m/*_[BS]*.jp2"),
        *_safe(trial).glob("GRANULE/*/QI_DATA/*B0[2348]*"),
    ]
    return sorted(found)


def _image(trial: Trial) -> Path:
    chosen = trial.rng.choice(_images(trial))
    trial.note = chosen.name
    return chosen


def _jp2(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        file = _image(trial)
        file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
        # JPEG 2000 has no checksums: a changed byte can decode to other pixels.
        if name not in ("truncate", "zero_end", "other_content") and not _has_checksums(trial):
            trial.may_differ |= ANY

    return change


def jp2_header(trial: Trial) -> None:
    """Damage the boxes before the codestream: size, georeference, number of components."""
    file = _image(trial)
    data = file.read_bytes()
    end = data.find(b"\xff\x4f\xff\x51")
    file.write_bytes(
        trial.rng.choice(
            (damage.flip_bytes(data, trial.rng, 0, end), damage.extreme_integer(data, trial.rng, end))
        )
    )
    if not _has_checksums(trial):
        trial.may_differ |= ANY


JPEG2000 = Kind(
    "jpeg2000",
    _prepare,
    {**{name: _jp2(name) for name in BYTES}, "header": jp2_header},
    ("without checksums", "with checksums"),
)


def _documents(trial: Trial) -> list[Path]:
    return [_safe(trial) / "MTD_MSIL2A.xml", *_safe(trial).glob("GRANULE/*/MTD_TL.xml")]


_NUMBERS = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?(\s+[-+]?\d+(\.\d*)?([eE][-+]?\d+)?)*")


def _is_another_number(before: str, after: str) -> bool:
    """Return True if a value is now another finite number, which nothing contradicts."""
    old = {match[0] for match in damage.elements(before)}
    new = {match[0] for match in damage.elements(after)} - old
    return any(_NUMBERS.fullmatch(re.sub("<[^>]*>", "", element).strip()) for element in new)


def _xml(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        file = trial.rng.choice(_documents(trial))
        text = file.read_text(encoding="utf-8")
        after = XML[name](text, trial.rng)
        file.write_text(after, encoding="utf-8", errors="replace")
        changed = [match[0] for match in damage.elements(after) if match[0] not in text]
        trial.note = f"{file.name} {changed[:1]}"[:200]
        if name in ("value", "swap") and _is_another_number(text, after):
            trial.may_differ |= ANY
        if file.name == "MTD_TL.xml" and ("VALUES" in "".join(changed) or name in ("remove", "rename")):
            trial.may_differ.add("trucks")  # directions come from the angles; without them from elsewhere

    return change


def _xml_bytes(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        file = trial.rng.choice(_documents(trial))
        file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))
        trial.note = file.name
        if name in ("flip_bytes", "zero_span", "repeat_span", "remove_span", "extreme_integer"):
            trial.may_differ |= ANY  # a changed digit is a digit

    return change


def encoding(trial: Trial) -> None:
    file = trial.rng.choice(_documents(trial))
    trial.note = file.name
    file.write_bytes(damage.encode_xml(file.read_text(encoding="utf-8"), trial.rng))


def exchanged(trial: Trial) -> None:
    """Exchange the metadata of product and tile."""
    product, tile = _documents(trial)
    first, second = product.read_bytes(), tile.read_bytes()
    product.write_bytes(second)
    if trial.rng.random() < 0.5:
        tile.write_bytes(first)


XML_FILES = Kind(
    "xml",
    lambda trial, _: _prepare(trial, "without checksums"),
    {
        **{name: _xml(name) for name in XML},
        **{f"bytes_{name}": _xml_bytes(name) for name in BYTES},
        "encoding": encoding,
        "exchanged": exchanged,
    },
)


def _what_depends_on(file: Path) -> set[str]:
    """Return the layers that may differ if a file is absent, since a run does without it."""
    if "_10m" in file.name:
        return set()
    if "_20m" in file.name and "SCL" not in file.name:
        return {"landcover", "trucks"}  # without roads, what is on mapped water is no truck
    return {"trucks"}


def missing(trial: Trial) -> None:
    """Remove a file, or a folder."""
    chosen = trial.rng.choice(sorted(_safe(trial).rglob("*")))
    trial.note = str(chosen.relative_to(_safe(trial)))[-60:]
    if chosen.is_dir():
        shutil.rmtree(chosen)
        trial.may_differ |= ANY
    else:
        chosen.unlink()
        trial.may_differ |= _what_depends_on(chosen)


def damaged_file(trial: Trial) -> None:
    """Truncate, empty or zero any file of the product."""
    chosen = trial.rng.choice(sorted(path for path in _safe(trial).rglob("*") if path.is_file()))
    trial.note = chosen.name
    name = trial.rng.choice(("truncate", "zero_end", "other_content"))
    chosen.write_bytes(BYTES[name](chosen.read_bytes(), trial.rng))
    if chosen.name == "MTD_TL.xml" or "DETFOO" in chosen.name or "SCL" in chosen.name:
        trial.may_differ.add("trucks")


def swapped(trial: Trial) -> None:
    """Exchange the content of two images."""
    first, second = trial.rng.sample(_images(trial), 2)
    trial.note = f"{first.name} {second.name}"
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    if not _has_checksums(trial):
        trial.may_differ |= ANY  # only checksums say which image is which


def other_name(trial: Trial) -> None:
    """Give an image the name of another tile, date, band or resolution."""
    chosen = _image(trial)
    old, new = trial.rng.choice(
        (
            ("T32UPD", "T33UUU"),
            ("20230824", "20230825"),
            ("_B0", "_B1"),
            ("0m", "5m"),
            (".jp2", ".jp2.part"),
            ("_", "__"),
        )
    )
    chosen.rename(chosen.with_name(chosen.name.replace(old, new)))
    trial.note += f" {old} {new}"
    trial.may_differ |= _what_depends_on(chosen)


def twice(trial: Trial) -> None:
    """Add a second granule, or a second image of a band, with other content."""
    if trial.rng.random() < 0.5:
        (granule,) = _safe(trial).glob("GRANULE/*")
        shutil.copytree(granule, granule.with_name(granule.name.replace("T32UPD", "T32UPE")))
        return
    chosen, other = trial.rng.sample(_images(trial), 2)
    trial.note = chosen.name
    shutil.copy(other, chosen.with_name("X" + chosen.name))


def no_file(trial: Trial) -> None:
    """Put a folder, a link, or a pipe in place of a file."""
    chosen = trial.rng.choice(sorted(path for path in _safe(trial).rglob("*") if path.is_file()))
    chosen.unlink()
    kind = trial.rng.choice(("folder", "link to itself", "broken link", "pipe", "link to a secret"))
    trial.note = f"{chosen.name}: {kind}"
    if kind == "folder":
        chosen.mkdir()
    elif kind == "pipe":
        os.mkfifo(chosen)
    else:
        targets = {"link to itself": chosen, "broken link": Path("nowhere")}
        chosen.symlink_to(targets.get(kind, trial.box.beside / "secret.txt"))
        trial.may_read = {"secret.txt"} if kind == "link to a secret" else set()
    trial.may_differ |= _what_depends_on(chosen)


SAFE = Kind(
    "safe",
    _prepare,
    {
        "missing": missing,
        "damaged_file": damaged_file,
        "swapped": swapped,
        "other_name": other_name,
        "twice": twice,
        "no_file": no_file,
    },
    ("without checksums", "with checksums"),
)


def _prepare_zip(trial: Trial, _: str) -> None:
    trial.corpus.copy(f"{NAME}.zip", trial.box.inputs)
    trial.argv = ["run", f"in/{NAME}.zip", "--out", "out", *ENGINE]
    trial.baseline = "safe"


def _archive(trial: Trial) -> Path:
    return trial.box.inputs / f"{NAME}.zip"


def _zip_bytes(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        _archive(trial).write_bytes(BYTES[name](_archive(trial).read_bytes(), trial.rng))

    return change


def directory(trial: Trial) -> None:
    """Damage the central directory."""
    data = _archive(trial).read_bytes()
    begin = data.find(b"PK\x01\x02")
    tail = data[begin:]
    made = trial.rng.choice((damage.flip_bytes(tail, trial.rng), damage.extreme_integer(tail, trial.rng)))
    _archive(trial).write_bytes(data[:begin] + made)


def member_header(trial: Trial) -> None:
    """Damage the header of a member: method, flags, version, sizes, CRC."""
    data = _archive(trial).read_bytes()
    signature = trial.rng.choice((b"PK\x01\x02", b"PK\x03\x04"))
    begin = trial.rng.choice([match.start() for match in re.finditer(re.escape(signature), data)])
    _archive(trial).write_bytes(damage.flip_bytes(data, trial.rng, begin + 4, begin + 46))


def _rewritten(trial: Trial) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(_archive(trial)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _write(trial: Trial, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(_archive(trial), "w", method) as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, data in members:
            archive.writestr(name, data)


def members(trial: Trial) -> None:
    """Rename, repeat, remove, empty or nest members, or compress them in another way."""
    listed = _rewritten(trial)
    index = trial.rng.randrange(len(listed))
    name, data = listed[index]
    choice = trial.rng.choice(
        ("up", "absolute", "remove", "empty", "repeat", "lzma", "bzip2", "two", "nested", "flat")
    )
    trial.note = f"{choice} {name[-40:]}"
    if choice == "up":
        listed.append((f"../../{Path(name).name}", data))
    elif choice == "absolute":
        listed[index] = (f"/{name}", data)
        trial.may_differ |= _what_depends_on(Path(name))
    elif choice == "remove":
        del listed[index]
        trial.may_differ |= _what_depends_on(Path(name))
    elif choice == "empty":
        listed[index] = (name, b"")
        trial.may_differ |= _what_depends_on(Path(name))
    elif choice == "repeat":
        listed.append((name, listed[(index + 1) % len(listed)][1]))
    elif choice == "two":
        listed += [(member.replace("T32UPD", "T32UPE"), content) for member, content in listed]
    elif choice == "nested":
        listed = [("inner.zip", _archive(trial).read_bytes())]
    elif choice == "flat":
        listed = [(member.partition("/")[2], content) for member, content in listed]
    _write(
        trial,
        listed,
        {"lzma": zipfile.ZIP_LZMA, "bzip2": zipfile.ZIP_BZIP2}.get(choice, zipfile.ZIP_DEFLATED),
    )


def changed_member(trial: Trial) -> None:
    """Damage an image, then zip it: its CRC is right then, but not the checksum of the product."""
    listed = _rewritten(trial)
    index = trial.rng.choice(
        [i for i, (name, _) in enumerate(listed) if re.search(r"_(B0[2348]_10|B11_20)m", name)]
    )
    listed[index] = listed[index][0], damage.flip_bytes(listed[index][1], trial.rng, 200)
    trial.note = listed[index][0][-30:]
    _write(trial, listed)


ZIP = Kind(
    "zip",
    _prepare_zip,
    {
        **{name: _zip_bytes(name) for name in BYTES},
        "directory": directory,
        "member_header": member_header,
        "members": members,
        "changed_member": changed_member,
    },
)
