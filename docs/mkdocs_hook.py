"""Hook of MkDocs: pages of the repository's root, reference of commands and settings, links between them.

Files are read and written nowhere else: the generated pages exist in the built site only.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

HOUSE = Path(__file__).resolve().parents[1]
LINK = re.compile(r'(?P<before>\]\(|src=")(?P<target>[^)\s"#:]+)(?P<after>[)"#])')
ROOT_PAGES = [
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "benchmarks/RESULTS.md",
    "benchmarks/MOTION.md",
]
SETTINGS = {
    "run": "pipeline.config:Config",
    "train detector --imagery": "pipeline.training.detector.settings:FineTuning",
    "train detector": "pipeline.training.detector.settings:DetectorTraining",
    "train segmenter --imagery": "pipeline.training.segmenter.settings:FineTuning",
    "train segmenter": "pipeline.training.segmenter.settings:SegmenterTraining",
    "train screener": "pipeline.training.screener:ScreenerTraining",
}
"""Settings of commands: classes by the command."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and the files of the repository that pages link to."""
    pages = {"docs/" + file.src_uri: Path(str(file.abs_src_path)) for file in files.documentation_pages()}
    texts = {address: path.read_text(encoding="utf-8") for address, path in pages.items()}
    texts |= {name: (HOUSE / name).read_text(encoding="utf-8") for name in ROOT_PAGES}
    texts["README.md"] = _start()
    texts["docs/reference/commands.md"] = _commands()
    texts["docs/reference/settings.md"] = _settings()
    texts["docs/reference/python.md"] = _python()
    linked = set()
    for address, text in texts.items():
        place = _in_site(address)
        if old := files.get_file_from_path(place):
            files.remove(old)
        rewritten, targets = _with_links(address, text)
        files.append(File.generated(config, place, content=rewritten))
        linked |= targets
    for address in sorted(linked - texts.keys()):
        place = _in_site(address)
        if (HOUSE / address).is_file() and not files.get_file_from_path(place):
            files.append(File.generated(config, place, content=(HOUSE / address).read_bytes()))
    return files


def _in_site(address: str) -> str:
    """Return the place in the site of a file of the repository."""
    return "index.md" if address == "README.md" else address.removeprefix("docs/")


def _with_links(address: str, text: str) -> tuple[str, set[str]]:
    """Return a page with relative links as the site has them, and the files that they lead to."""
    targets = set()

    def changed(link: re.Match[str]) -> str:
        target = normpath(f"{dirname(address)}/{link['target']}").lstrip("/")
        if not (HOUSE / target).is_file():
            return link[0]  # strict mode reports it
        targets.add(target)
        return (
            f"{link['before']}{relpath(_in_site(target), dirname(_in_site(address)) or '.')}{link['after']}"
        )

    return LINK.sub(changed, text), targets


def _start() -> str:
    """Return the README, without its table of pages, with the script of the page on Python."""
    readme = (HOUSE / "README.md").read_text(encoding="utf-8")
    script = _section((HOUSE / "docs" / "api.md").read_text(encoding="utf-8"), "Ten lines")
    example = re.search(r"```python.*?```", _section(readme, "In Python"), re.DOTALL)
    if example is None:
        raise ValueError("README.md: section 'In Python' has no example, which this page replaces.")
    return (
        readme.replace(example[0], script.strip())
        .replace(_section(readme, "More"), "")
        .replace("## More\n", "")
    )


def _section(page: str, title: str) -> str:
    """Return the text below a heading; ValueError if a page lacks it."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"Heading '## {title}' is expected in a page of the site.")
    return found[1]


def _commands() -> str:
    """Return the help of all commands, by Typer."""
    command = [sys.executable, "-m", "typer", "pipeline.cli", "utils", "docs", "--name", "truckscape"]
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, check=True, encoding="utf-8")
    text = done.stdout.replace("# `truckscape`\n", "# Command line\n", 1)
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)  # Typer cuts their sentences


def _python() -> str:
    """Return the page of the public API: each name with its docstring, errors last."""
    import truckscape

    names = [name for name in truckscape.__all__ if not name.startswith("_")]
    errors = [name for name in names if name.endswith("Error")]
    first = sorted(set(names) - set(errors), key=lambda name: (name[0].isupper(), name))
    lines = ["# Python API", "`import truckscape as ts`. [Guide](../api.md).", "", "## Functions and classes"]
    lines += [f"::: truckscape.{name}\n" for name in first]
    lines += ["## Errors", *[f"::: truckscape.{name}\n" for name in errors]]
    return "\n".join(lines)


def _settings() -> str:
    """Return tables of all settings, by the JSON schema of their classes."""
    import importlib

    lines = ["# Settings", "Set one with `--set group.key=value`, or in a YAML file that `--config` names."]
    for command, where in SETTINGS.items():
        module, _, name = where.partition(":")
        kind = getattr(importlib.import_module(module), name)
        schema = kind.model_json_schema()
        lines += ["", f"## truckscape {command}", "", schema.get("description", "").partition("\n\n")[0]]
        lines += _table(schema, schema.get("$defs", {}))
    return "\n".join(lines) + "\n"


def _table(schema: Mapping[str, Any], groups: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the table of a group of settings, then those of the groups in it."""
    rows, below = [], []
    for name, field in schema["properties"].items():
        group = groups.get(field.get("$ref", "").rpartition("/")[2])
        if group and "properties" in group:
            below += ["", f"### {prefix}{name}", group.get("description", "").partition("\n\n")[0]]
            below += _table(group, groups, f"{prefix}{name}.")
        else:
            default = f"`{_yaml(field['default'])}`" if "default" in field else "required"
            values = " or ".join(dict.fromkeys(_values(field, groups)))
            rows.append(
                f"| `{prefix}{name}` | {values} | {default} | {_cell(field.get('description', ''))} |"
            )
    head = ["", "| setting | values | default | meaning |", "|---|---|---|---|"]
    return [*(head + rows if rows else []), *below]


def _values(field: Mapping[str, Any], groups: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kinds of values that a setting takes."""
    for part in field.get("anyOf", ()):
        yield from _values(part, groups)
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield from _values(groups[name], groups)
    elif "enum" in field or "const" in field:
        yield ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    elif field.get("type") == "array":
        yield "list of " + (" or ".join(_values(field.get("items", {}), groups)) or "values")
    elif "type" in field:
        limits = [field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum")]
        bounds = [
            f"{word} {limit:,}"
            for word, limit in zip(("from", "to"), limits, strict=True)
            if limit is not None
        ]
        words = {"string": "text", "boolean": "true, false", "object": "keys and values"}
        yield " ".join([words.get(field["type"], field["type"]), *bounds])


def _yaml(value: object) -> str:
    """Return a default as a YAML file has it, on one line."""
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
