"""Recipes: parameterised notebooks that travel in the package: their parameters, presets and needs."""

from __future__ import annotations

import ast
import difflib
import io
import json
import logging
import os
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import swebench_lab
from swebench_lab import _html
from swebench_lab.errors import RecipeError

_log = logging.getLogger(__name__)

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


_RESERVED = ("preset", "progress")
"""Arguments of `run_recipe` itself, which no recipe may use as parameters."""


# --- what a recipe is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a recipe.

    Args:
        name: Its name in the notebook.
        type: Its annotation: `str`, `int`, `float`, `bool`, `list`, `dict`, or several joined by `|`.
        default: Its value when none is given.
        help: The comment on its line.
    """

    name: str
    type: str
    default: Any
    help: str = ""

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the parameter's type; a whole number is a float too, but true is not a number."""
        kinds = [_TYPES[kind] for kind in self.type.split(" | ")]
        if isinstance(value, bool):
            return (bool,) in kinds
        return any(isinstance(value, allowed) for allowed in kinds)

    def read(self, text: str) -> Any:
        """Return a text from a command line as a value of this parameter's type.

        Raises:
            RecipeError: The text is not a value of the type.
        """
        for kind in sorted(self.type.split(" | "), key=list(reversed(_TYPES)).index):
            value = _read_as(kind, text)
            if value is not _NO_VALUE:
                return value
        raise RecipeError(f"parameter {self.name!r} takes {self.type}; {text!r} is not one")


_NO_VALUE = object()


def _read_as(kind: str, text: str) -> Any:
    """Return `text` read as one plain type, or _NO_VALUE."""
    words: dict[str, dict[str, Any]] = {"bool": {"true": True, "false": False}, "None": {"none": None, "null": None}}
    if kind == "str":
        return text
    if kind in words:
        return words[kind].get(text.strip().lower(), _NO_VALUE)
    try:
        value = {"int": int, "float": float}.get(kind, json.loads)(text)
    except ValueError:
        return _NO_VALUE
    return value if isinstance(value, _TYPES[kind]) else _NO_VALUE


@dataclass(frozen=True)
class Recipe:
    """A parameterised notebook.

    Args:
        name: Its name.
        path: The notebook.
        title: Its first heading.
        parameters: What its cell tagged `parameters` declares, in order.
        presets: Name → parameters, from the YAML file beside the notebook.
        modules: Modules that it imports and this package does not always bring along.
        extra: The extra that brings them.
    """

    name: str
    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    presets: Mapping[str, Mapping[str, Any]] = field(hash=False, default_factory=dict)
    modules: tuple[str, ...] = ()
    extra: str = ""

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for the notebook.

        Raises:
            RecipeError: A name is not a parameter's, or a value is not of its type.
        """
        by_name = {parameter.name: parameter for parameter in self.parameters}
        checked: dict[str, Any] = {}
        for name, raw in values.items():
            if name not in by_name:
                raise RecipeError(f"recipe {self.name!r} has no parameter {name!r}; {_hint(name, by_name)}")
            value = os.fspath(raw) if isinstance(raw, os.PathLike) else raw
            value = list(value) if isinstance(value, tuple) else value
            if not by_name[name].accepts(value):
                raise RecipeError(
                    f"recipe {self.name!r}: parameter {name!r} takes {by_name[name].type}, "
                    f"not {type(raw).__name__} {raw!r:.60}"
                )
            checked[name] = value
        return checked

    def values(self, preset: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults, changed by a preset, changed by `parameters`: all of them checked.

        Raises:
            RecipeError: The preset is unknown, or a parameter is unknown or of the wrong type.
        """
        if preset is not None and preset not in self.presets:
            raise RecipeError(f"recipe {self.name!r} has no preset {preset!r}; {_hint(preset, self.presets)}")
        overrides = self.check(self.presets[preset]) if preset is not None else {}
        return {parameter.name: parameter.default for parameter in self.parameters} | overrides | self.check(parameters)

    def __repr__(self) -> str:
        """Return the title, then one line a parameter, then the presets."""
        lines = [f"{self.name}: {self.title}"]
        lines += [
            f"  {p.name}: {p.type} = {p.default!r}" + (f"  # {p.help}" if p.help else "") for p in self.parameters
        ]
        lines += [f"  preset {name}: {dict(values)}" for name, values in self.presets.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [[p.name, p.type, repr(p.default), p.help] for p in self.parameters]
        presets = "; ".join(f"{name}: {dict(values)}" for name, values in self.presets.items())
        table = _html.table(["parameter", "type", "default", "meaning"], rows)
        return _html.card(f"{self.name}: {self.title}", table + _html.note(presets and f"presets: {presets}"))


def _hint(name: str, candidates: Iterable[str]) -> str:
    """Return the closest known name, if any, and all known names."""
    names = list(candidates)
    close = difflib.get_close_matches(name, names, 1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(names) or 'none'}"


def _folder() -> Path:
    """Return the folder of the recipes: the wheel's, else the checkout's."""
    packaged = Path(str(resources.files("swebench_lab"))) / "_recipes"
    return packaged if packaged.is_dir() else Path(swebench_lab.__file__).parent.parent / "recipes"


def list_recipes() -> list[Recipe]:
    """Return all recipes of the package, by name."""
    return [_read(path.stem, path) for path in sorted(_folder().glob("*.ipynb"))]


def describe(name: str | Path) -> Recipe:
    """Return a recipe: its parameters with type, default and meaning, and its presets.

    Args:
        name: A recipe's name, or the path of a notebook of your own that has a cell tagged `parameters`.

    Raises:
        RecipeError: There is no such recipe, or its parameters cannot be read.
    """
    path = Path(name).expanduser()
    if path.suffix != ".ipynb":
        path = _folder() / f"{name}.ipynb"
        names = sorted(p.stem for p in _folder().glob("*.ipynb"))
        if str(name) not in names:
            raise RecipeError(f"there is no recipe {str(name)!r}; {_hint(str(name), names)}")
    elif not path.is_file():
        raise RecipeError(f"there is no notebook {path}")
    _log.debug("recipe %r is %s", str(name), path)
    return _read(path.stem, path)


def _read(name: str, path: Path) -> Recipe:
    try:
        notebook = json.loads(path.read_text("utf-8"))
        cells, needs = notebook["cells"], notebook.get("metadata", {}).get("swebench_lab", {})
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"reading the notebook {path}: it is not a notebook ({error})") from error
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    parameters = _declarations("".join(tagged[0]["source"]), path) if tagged else ()
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    heading = re.search(r"^#\s+(.+)$", prose, re.MULTILINE)
    title = heading[1].strip() if heading else ""
    modules, extra = tuple(needs.get("modules", ())), str(needs.get("extra", ""))
    return Recipe(name, path, title, parameters, _presets(path.with_suffix(".yaml")), modules, extra)


def _declarations(source: str, path: Path) -> tuple[Parameter, ...]:
    """Return the parameters that a cell's assignments declare; their comments are the help."""
    comments = {
        token.start[0]: token.string.lstrip("#: ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            name, annotation = node.target.id, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, annotation = node.targets[0].id, ""
        else:
            continue
        if name in _RESERVED:
            raise RecipeError(f"{path}: a parameter cannot be called {name!r}, which run_recipe itself takes")
        default = _literal(node.value, name, path)
        kinds = re.sub(r"\[.*\]", "", annotation or ("None" if default is None else type(default).__name__))
        if unknown := [kind for kind in kinds.split(" | ") if kind not in _TYPES]:
            raise RecipeError(f"{path}: parameter {name!r} has the type {unknown[0]!r}; known: {', '.join(_TYPES)}")
        parameters.append(Parameter(name, kinds, default, comments.get(node.end_lineno or node.lineno, "")))
    return tuple(parameters)


def _literal(node: ast.expr | None, name: str, path: Path) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError as error:
        raise RecipeError(f"{path}: the default of parameter {name!r} must be a plain value") from error


def _presets(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        import yaml
    except ImportError as error:
        raise RecipeError(f"reading {path} needs the notebook extra: pip install 'swebench-lab[notebook]'") from error
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    presets = (
        {str(name): values or {} for name, values in content.items()} if isinstance(content, dict) else {"": content}
    )
    if wrong := [name for name, values in presets.items() if not isinstance(values, dict)]:
        raise RecipeError(f"{path}: preset {wrong[0]!r} must be a mapping of parameters to values")
    return presets
