"""Storage that Prefect's blocks name, as addresses with the options of fsspec."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import fsspec.config
import httpx
from prefect.filesystems import LocalFileSystem, RemoteFileSystem

from pipeline.errors import ConfigError, OrchestratorError
from pipeline.inference.shard_store import SETTING as STORE
from pipeline.operations.request import BatchRequest
from pipeline.run import Request
from pipeline.storage.publish import SETTING as PUBLISH_URL

_NAME = re.compile(r"(local-?file-?system|remote-?file-?system)/([^/]+)", re.IGNORECASE)
"""Slug of a block document, or the class of the block and its name."""

R = TypeVar("R", Request, BatchRequest)


@contextmanager
def storage_of_blocks(request: R) -> Iterator[R]:
    """Replace blocks that name storage by their addresses, and use their options for the time of the block.

    `out` may be a block `local-file-system/NAME`; `publish.url` and `runner.store` may also be a block
    `remote-file-system/NAME`. Options, which may be credentials, are no part of the request: they become
    defaults of fsspec for the protocol, in this process and in those that it starts.

    Raises
    ------
    ConfigError
        If there is no such block, it has no folder, `out` is remote, or two blocks of one protocol have other
        options.
    OrchestratorError
        If Prefect's server does not answer.
    """
    config = request.config
    publish, publish_options = _address(config.publish.url, PUBLISH_URL)
    store, store_options = _address(config.runner.store, STORE)
    changed = config.model_copy(
        update={
            "publish": config.publish.model_copy(update={"url": publish}),
            "runner": config.runner.model_copy(update={"store": store}),
        }
    )
    with ExitStack() as options:
        for protocol, given in _merged(publish_options, store_options).items():
            options.enter_context(_defaults(protocol, given))
        yield replace(request, out=_folder(request.out), config=changed)


def _folder(out: Path) -> Path:
    block = _block(str(out), "out")
    if block is None:
        return out
    if isinstance(block, RemoteFileSystem):
        raise ConfigError(
            "out must be a folder of the worker, e.g. a block local-file-system/NAME; layers are copied "
            f"from there to the setting publish.url={out}. Received: {out}"
        )
    return _local(block, str(out))


def _address(name: str | None, setting: str) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """Return the address of a setting, and the options of its block by protocol."""
    block = _block(name, setting)
    if name is None or block is None:
        return name, {}
    if isinstance(block, LocalFileSystem):
        return _local(block, name).as_uri(), {}
    protocol = block.basepath.partition("://")[0]
    return block.basepath.rstrip("/"), {protocol: block.settings} if block.settings else {}


def _block(name: str | None, setting: str) -> LocalFileSystem | RemoteFileSystem | None:
    found = _NAME.fullmatch(name or "")
    if found is None:
        return None
    kind: Any = LocalFileSystem if found[1].lower().startswith("local") else RemoteFileSystem
    try:
        block: LocalFileSystem | RemoteFileSystem = kind.load(found[2])
    except ValueError as error:
        why = " ".join(str(error).split())
        raise ConfigError(
            f"{setting}: Prefect has no such block of storage; `prefect block ls` lists them. "
            f"Received: {name} ({why})"
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise OrchestratorError(f"{setting}={name}: Prefect's server does not answer ({why}).") from error
    return block


def _local(block: LocalFileSystem, name: str) -> Path:
    if not block.basepath:
        raise ConfigError(f"The block has no basepath; give it the folder. Received: {name}")
    return Path(block.basepath).expanduser().absolute()


def _merged(*options: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for each in options:
        for protocol, given in each.items():
            if merged.setdefault(protocol, given) != given:
                raise ConfigError(
                    f"{PUBLISH_URL} and {STORE} are blocks of {protocol}:// with other settings; one process "
                    "can use one set of them. Use one block's settings, or the environment of the worker."
                )
    return merged


@contextmanager
def _defaults(protocol: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Set defaults of fsspec here, and by the variable that it reads in processes started from here."""
    variable = f"FSSPEC_{protocol.upper()}"
    before, inherited = fsspec.config.conf.get(protocol, {}), os.environ.get(variable)
    fsspec.config.conf[protocol] = {**before, **options}
    os.environ[variable] = json.dumps(fsspec.config.conf[protocol])
    try:
        yield
    finally:
        fsspec.config.conf[protocol] = before
        if inherited is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = inherited
