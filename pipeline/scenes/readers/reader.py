"""The interface of a scene format: what `READERS` lists and `open_scene` calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.scenes.scene import Scene


@dataclass(frozen=True)
class Reader:
    """One scene format.

    `finds` decides for the children of a folder of scenes, and may look inside; without it `accepts` does.
    """

    format: str
    """Its name in messages and help texts, with an article: "a folder of band files"."""
    accepts: Callable[[str], bool]
    """Return whether a path that exists, or a URL, is of this format, by its name and kind."""
    open: Callable[[str, Sequence[str] | None], Scene]
    """Read the metadata of the scene at a path or URL; the second argument names its bands."""
    names_bands: bool = False
    """Whether users may name the bands."""
    finds: Callable[[Path], bool] | None = None

    def is_scene(self, path: Path) -> bool:
        """Return whether a file or folder among others is a scene of this format."""
        return self.accepts(str(path)) if self.finds is None else self.finds(path)
