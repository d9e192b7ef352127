"""Options: a configuration file's values, each checked against a table of what becomes of it."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Option:
    """What becomes of one option.

    Args:
        fate: `mapped` (the agent does it), `elsewhere` (another part of this package has it, and the agent does not
            need it), `no effect` (it changes nothing here, for the reason given), or `refused` (it would change an
            attempt in a way that is not offered: an error unless the value is harmless).
        becomes: What it becomes, or why not.
        harmless: Values with which a refused option asks for nothing.
        tree: Whether what is below it is free: names and values of the user's own.
    """

    fate: str
    becomes: str
    harmless: tuple[Any, ...] = (None, "", False, 0, [], {})
    tree: bool = False


def load(file: Path) -> dict[str, Any]:
    """Return a YAML file's values; none where it is empty, or holds comments only.

    Raises:
        ConfigError: It is missing, no YAML, or no mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"reading {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"reading {file}: it is no YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"reading {file}: a configuration is a mapping, not {type(values).__name__}")
    return values


def load_merged(sources: Sequence[str | Path]) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Return the values of several files, each of which overrides those before it, and the files.

    Mappings are merged, key by key; everything else, lists too, is replaced.

    Args:
        sources: YAML files, `.yaml` left out or not, and values such as `model.model_kwargs.temperature=0.5`, with `--`
            before them or not: JSON, or else a text.

    Raises:
        ConfigError: One cannot be read, or none is a file.
    """
    result: dict[str, Any] = {}
    files = []
    for source in sources:
        name, sign, value = str(source).partition("=")
        if sign and not Path(source).exists():
            values: Any = _parse(value)
            parts = name.removeprefix("--").split(".")
            if not all(parts):
                raise ConfigError(f"reading {source}: a part of the option's name is empty")
            for part in reversed(parts):
                values = {part: values}
        else:
            file, longer = Path(source), Path(f"{source}.yaml")
            files.append(longer if longer.is_file() and not file.is_file() else file)
            values = load(files[-1])
        result = _merge(result, values)
    if not files:
        raise ConfigError(f"reading the configuration {', '.join(map(str, sources)) or '()'}: no file is named")
    return result, tuple(files)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        result[key] = _merge(under if isinstance(under, dict) else {}, value) if isinstance(value, dict) else value
    return result


class Settings:
    """The values of a configuration; making it refuses what the table does not know.

    Args:
        values: What its files hold.
        files: The files, for errors and for paths that start from them.
        table: Dotted name of an option (`[]` stands for each item of a list) → what becomes of it.

    Raises:
        ConfigError: An option is unknown, or refused.
    """

    def __init__(self, values: Mapping[str, Any], files: Sequence[Path], table: Mapping[str, Option]) -> None:
        self.values, self.files, self.table = values, files, table
        self.file = " + ".join(map(str, files))
        """What errors call it."""
        self.name = "+".join(file.stem for file in files)
        self.root: Path | None = None
        """Folder that relative paths start from; None: found by `path`."""
        self.told = [
            (name, _short(value), option.fate, option.becomes) for name, value, option in self._walk(values, "")
        ]
        """Option, value, fate, and what it becomes, for each option."""

    def _walk(self, value: Any, name: str) -> Iterator[tuple[str, Any, Option]]:
        option = self.table.get(_general(name))
        below = any(other.startswith((f"{_general(name)}.", f"{_general(name)}[]")) for other in self.table)
        if option is not None and (option.tree or not below or not isinstance(value, dict | list)):
            if option.fate == "refused" and value not in option.harmless:
                raise ConfigError(f"{self.file}, option {name}: not taken over: {option.becomes}")
            yield name, value, option
        elif isinstance(value, dict) and (below or not name):
            for key, inner in value.items():
                yield from self._walk(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list) and below:
            for i, inner in enumerate(value):
                yield from self._walk(inner, f"{name}[{i}]")
        elif not below:
            raise self._unknown(name)
        elif value is not None:
            raise ConfigError(f"{self.file}, option {name}: expected a mapping, not {_short(value)!r}")

    def _unknown(self, name: str) -> ConfigError:
        general = _general(name)
        near = difflib.get_close_matches(general, self.table, n=1, cutoff=0.0)
        last = general.rpartition(".")[2]
        same = difflib.get_close_matches(last, {known.rpartition(".")[2]: known for known in self.table}, n=1)
        ends = [known for known in self.table if same and known.rpartition(".")[2] == same[0]]
        nearest = max(ends or near, key=lambda known: difflib.SequenceMatcher(None, general, known).ratio())
        return ConfigError(f"{self.file}: unknown option {name!r}; the nearest known one is {nearest!r}")

    def get(self, name: str, default: Any = None, kind: type | tuple[type, ...] | None = None) -> Any:
        """Return an option by its dotted name, or the default where it is missing or null.

        Raises:
            ConfigError: It is not of the kind.
        """
        value: Any = self.values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            return default
        wrong_bool = isinstance(value, bool) and kind is not None and kind is not bool
        if kind is not None and (not isinstance(value, kind) or wrong_bool):
            expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise ConfigError(f"{self.file}, option {name}: expected {expected}, not {_short(value)!r}")
        return value

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        return str(self.get(name, default, str))

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a number, 0 or more.

        Raises:
            ConfigError: It is none.
        """
        value = self.get(name, default)
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):  # as those programs read it
            value = float(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, f"expected a number, not {_short(value)!r}")
        if value < 0:
            raise self.wrong(name, f"must not be negative, but is {value:g}")
        return float(value)

    def strings(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of texts."""
        items = self.get(name, list(default), list)
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(name, "expected a list of texts")
        return tuple(items)

    def wrong(self, name: str, what: str) -> ConfigError:
        """Return an error that names the file and an option."""
        return ConfigError(f"{self.file}, option {name}: {what}")

    def path(self, name: str, text: str) -> Path:
        """Return where something lies that the file names.

        Raises:
            ConfigError: There is nothing of that name.
        """
        given = Path(text).expanduser()
        home = self.root or os.environ.get("SWE_AGENT_CONFIG_ROOT")
        starts = [file.absolute().parent for file in reversed(self.files)]
        folders = [Path(home)] if home else [folder for start in starts for folder in (start, *start.parents)]
        for folder in folders:
            if (folder / given).exists():
                return (folder / given).resolve()
        looked = home or f"{', '.join(map(str, starts))} and the folders above"
        raise self.wrong(name, f"there is no {text!r} in {looked}; give root=, the folder it starts from")


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def _general(name: str) -> str:
    """Return an option's name as tables have it: `[]` for each place in a list."""
    return re.sub(r"\[\d+\]", "[]", name)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
