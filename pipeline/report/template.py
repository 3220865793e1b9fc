"""Pages that stand alone: templates, and the style sheets and scripts that go inside them."""

from __future__ import annotations

import base64
import json
import math
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.storage.atomic import replacing

_STATIC = files("pipeline.report") / "static"
_LEAFLET = _STATIC / "leaflet"


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill a template of this folder and write it, whole or not at all.

    Pages extend `base.html.j2`, which brings the look and, by a content security policy, keeps the network
    out; it wants `title`. Besides `values` they have the functions `asset` and `for_script`.

    Raises
    ------
    OutputError
        If `path` can't be written.
    """
    text = environment().get_template(template).render(**values)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@cache
def environment() -> jinja2.Environment:
    """Templates of this folder, with the filters they use; NaN and None become `n/a`."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["percent"] = lambda share: _number(share, "{:.1f} %", 100)
    made.filters["ratio"] = lambda value: _number(value, "{:.2f}")
    made.filters["decimal"] = lambda value, digits=1: _number(value, f"{{:,.{digits}f}}")
    made.filters["count"] = lambda value: _number(value, "{:,.0f}")
    made.filters["breakable"] = _breakable
    made.globals["asset"] = asset
    made.globals["for_script"] = for_script
    made.globals["leaflet_script"] = leaflet_script
    made.globals["leaflet_style"] = leaflet_style
    made.globals["uplot_script"] = uplot_script
    return made


def asset(name: str) -> Markup:
    """Return a file of `static/`, for a `style` or `script` element."""
    return Markup((_STATIC / name).read_text(encoding="utf-8"))  # noqa: S704 (our file)


def for_script(data: Any) -> Markup:
    """Compact JSON that is safe to stand inside a `script` element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), default=str)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def leaflet_script() -> Markup:
    """Leaflet's code under its licence, without the pointer to its source map."""
    code = (_LEAFLET / "leaflet.js").read_text(encoding="utf-8")
    licence = (_LEAFLET / "LICENSE").read_text(encoding="utf-8")
    return Markup(f"/*\n{licence}*/\n{re.sub(r'//# sourceMappingURL=.*', '', code)}")  # noqa: S704 (our file)


def uplot_script() -> Markup:
    """uPlot's code under its licence."""
    licence, code = (asset(f"uplot/{name}") for name in ("LICENSE", "uPlot.iife.min.js"))
    return Markup("/*\n{}*/\n{}").format(licence, code)


def leaflet_style() -> Markup:
    """Leaflet's style sheet with its images inside, and what all maps change of it."""

    def inline(found: re.Match[str]) -> str:
        image = _LEAFLET / "images" / found[1]
        if not image.is_file():
            return "none"
        return f"url(data:image/png;base64,{base64.b64encode(image.read_bytes()).decode('ascii')})"

    style = (_LEAFLET / "leaflet.css").read_text(encoding="utf-8")
    return Markup(re.sub(r"url\(images/([\w.-]+)\)", inline, style)) + asset("map.css")  # noqa: S704 (our file)


def _breakable(name: str) -> Markup:
    """Return the name of a scene or file, which may go on in the next line after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def _number(value: float | None, form: str, times: float = 1) -> str:
    return "n/a" if value is None or math.isnan(value) else form.format(times * value)
