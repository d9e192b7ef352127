"""Distribution: the `.dist-info` of a project that is put on `sys.path` without being built.

Code asks for its own version and entry points through it; what only a build could tell is left out.
"""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swebench_lab.records.python_source import parse

UNKNOWN = "0.0.0"
"""The version of a project that does not state one outside its build."""

FILES = ("METADATA", "INSTALLER", "entry_points.txt")
"""The files that are written."""

_NAMES = ("__version__", "version", "VERSION", "__VERSION__")
_PLACES = ("__init__.py", "_version.py", "version.py", "__version__.py", "__about__.py", "about.py")

Scripts = Mapping[str, Mapping[str, str]]
"""Entry points: group to name to object reference."""


def about(name: str, version: str, requires: Iterable[str], scripts: Scripts) -> dict[str, str]:
    """Return the files of a `.dist-info`, by name."""
    head = [("Metadata-Version", "2.1"), ("Name", name), ("Version", version or UNKNOWN)]
    lines = [f"{key}: {value}" for key, value in head]
    lines += [f"Requires-Dist: {text}" for text in requires if "\n" not in text]
    files = {"METADATA": "\n".join(lines) + "\n", "INSTALLER": "swebench_lab\n"}
    groups = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
              for group, entries in scripts.items() if entries]  # fmt: skip
    return files | ({"entry_points.txt": "\n".join(groups)} if groups else {})


def folder_name(files: Mapping[str, str]) -> str:
    """Return how the `.dist-info` folder of such files is called; empty where there are none."""
    metadata = files.get("METADATA", "")
    name, version = (re.search(rf"^{key}: (.+)$", metadata, re.MULTILINE) for key in ("Name", "Version"))
    if name is None or version is None:
        return ""
    safe = re.sub(r"[^A-Za-z0-9.]+", "_", name[1]), re.sub(r"[^A-Za-z0-9.+!]+", "_", version[1])
    return "-".join(safe) + ".dist-info"


def console_scripts(files: Mapping[str, str]) -> dict[str, str]:
    """Return the programs that the entry points of such files ask for: name to text."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment]
    try:
        parser.read_string(files.get("entry_points.txt", ""))
    except configparser.Error:
        return {}
    scripts = {}
    for name, value in parser.items("console_scripts") if parser.has_section("console_scripts") else ():
        match = re.fullmatch(r"([\w.]+)\s*:\s*([\w.]+)\s*(?:\[.*\])?", value)
        if match and re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
            first = match[2].partition(".")[0]
            scripts[name] = (
                f"#!python\nimport sys\n\nfrom {match[1]} import {first}\n\n"
                f"if __name__ == '__main__':\n    sys.exit({match[2]}())\n"
            )
    return scripts


def entry_points(toml: Mapping[str, Any], cfg: configparser.ConfigParser, setup: Mapping[str, Any]) -> Scripts:
    """Return what a project registers, from the first of its files that says so."""
    project, poetry = _at(toml, "project"), _at(toml, "tool", "poetry")
    groups: dict[str, dict[str, str]] = {
        "console_scripts": _texts(
            project.get("scripts") or poetry.get("scripts") or _at(toml, "tool", "flit").get("scripts")
        ),
        "gui_scripts": _texts(project.get("gui-scripts")),
    }
    for group, entries in {**_at(poetry, "plugins"), **_at(project, "entry-points")}.items():
        groups[group] = _texts(entries)
    if not any(groups.values()) and cfg.has_section("options.entry_points"):
        groups = {group: _pairs(text.splitlines()) for group, text in cfg.items("options.entry_points")}
    declaration = setup.get("entry_points")
    if not any(groups.values()) and isinstance(declaration, Mapping):
        groups = {
            str(group): _pairs(entries.splitlines() if isinstance(entries, str) else entries)
            for group, entries in declaration.items()
        }
    return {group: entries for group, entries in groups.items() if entries}


def version_of(
    root: Path, toml: Mapping[str, Any], cfg: configparser.ConfigParser, setup: Mapping[str, Any], info: str
) -> str:
    """Return a project's version as its files state it, nothing of it run; empty where only its build can tell."""
    value = (
        _at(toml, "project").get("version")
        or _at(toml, "tool", "poetry").get("version")
        or cfg.get("metadata", "version", fallback="")
        or setup.get("version")
    )
    match = re.search(r"^Version: (.+)$", info, re.MULTILINE)
    if match:
        return match[1].strip()
    text = str(value or "")
    if text.startswith("attr:"):
        return _attribute(root, text.removeprefix("attr:").strip())
    if text.startswith("file:"):
        return _first_line(root, text.removeprefix("file:").strip())
    if text:
        return text if re.fullmatch(r"v?\d[\w.+!-]*", text) else ""
    dynamic = _at(toml, "tool", "setuptools", "dynamic", "version")
    if isinstance(dynamic.get("attr"), str):
        return _attribute(root, dynamic["attr"])
    for place in (str(_at(toml, "tool", "hatch", "version").get("path", "")), *_usual_places(root)):
        if place and (version := _assignment(root, root / place, _NAMES)):
            return version
    return ""


def _usual_places(root: Path) -> list[str]:
    """Return the files in which packages keep their version, of the packages at the root or below `src` and `lib`."""
    folders = [
        path.parent for where in (root, root / "src", root / "lib") for path in sorted(where.glob("*/__init__.py"))
    ]
    packages = [f for f in folders if f.name not in ("tests", "test", "docs", "doc", "examples", "benchmarks")]
    return [(folder / name).relative_to(root).as_posix() for folder in packages[:4] for name in _PLACES]


def _attribute(root: Path, dotted: str) -> str:
    module, _, name = dotted.rpartition(".")
    inside = module.replace(".", "/")
    places = [root / base / f"{inside}{end}" for base in ("", "src", "lib") for end in (".py", "/__init__.py")]
    return next((value for path in places if (value := _assignment(root, path, (name,)))), "")


def _first_line(root: Path, name: str) -> str:
    text = _read(root, root / name).strip()
    return text.splitlines()[0].strip() if text else ""


def _assignment(root: Path, path: Path, names: Iterable[str]) -> str:
    """Return the text that a module assigns to one of some names; empty where it computes it."""
    try:
        tree = parse(_read(root, path))
    except (SyntaxError, ValueError):
        return ""
    name_set = set(names)
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if not any(isinstance(t, ast.Name) and t.id in name_set for t in targets) or not isinstance(
            value, ast.Constant
        ):
            continue
        if isinstance(value.value, str) and re.fullmatch(r"v?\d[\w.+!-]*", value.value):
            return value.value
    return ""


def _read(root: Path, path: Path) -> str:
    try:
        # A link could lead out of the checkout, and the answer would then depend on this machine.
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            return ""
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _at(values: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _texts(values: Any) -> dict[str, str]:
    if not isinstance(values, Mapping):
        return {}
    return {str(k): str(v) for k, v in values.items() if isinstance(v, str) and "\n" not in f"{k}{v}"}


def _pairs(lines: Iterable[Any]) -> dict[str, str]:
    pairs = {}
    for line in lines:
        name, equals, value = str(line).partition("=")
        if equals and name.strip() and value.strip():
            pairs[name.strip()] = value.strip()
    return pairs
