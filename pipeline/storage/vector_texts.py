"""Features through pyogrio, with texts in any encoding."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyogrio

from pipeline.input_warnings import warn

_OF_BYTES = "ISO-8859-1"
"""An encoding in which every byte is a letter."""
_WESTERN = "cp1252"


def read_frame(source: str, file: str, **options: Any) -> pd.DataFrame:
    """Return `pyogrio.read_dataframe(source, **options)`; `file` names the file in messages.

    Texts that are not in the encoding of the file are read as UTF-8 if they are, else as Windows-1252, with
    a warning.
    """
    try:
        return pyogrio.read_dataframe(source, **options)
    except UnicodeDecodeError:
        frame = pyogrio.read_dataframe(source, encoding=_OF_BYTES, **options)
    warn(
        f"{file}: texts are not in the encoding of the file (UTF-8, or that of the .cpg of a Shapefile). "
        "They are read as Windows-1252, so names in other scripts may be wrong. Write the file again in "
        "UTF-8, or correct its .cpg."
    )
    for name in frame.columns[(frame.dtypes == "object") | (frame.dtypes == "string")]:
        frame[name] = frame[name].map(_decoded)
    return frame.rename(columns={name: _decoded(name) for name in frame.columns})


def read_info(source: str, **options: Any) -> dict[str, Any]:
    """Return `pyogrio.read_info(source, **options)`, also where names of fields are in another encoding."""
    try:
        return dict(pyogrio.read_info(source, **options))
    except UnicodeDecodeError:
        return dict(pyogrio.read_info(source, encoding=_OF_BYTES, **options))


def _decoded(value: Any) -> Any:
    """Return a text from one whose letters are bytes; other values as they are."""
    if not isinstance(value, str):
        return value
    raw = value.encode(_OF_BYTES, errors="replace")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # a field too short for its text ends within a letter
            return raw[: error.start].decode()
        return raw.decode(_WESTERN, errors="replace")
