"""Config: what both kinds of settings share: named fields only, old names explained, a table, and plain JSON."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Self

from swebench_lab import _html
from swebench_lab.errors import TrainingError


class Config:
    """Base of frozen settings, whose fields are given by name.

    Raises:
        TrainingError: A name is unknown, or was called otherwise before; the message says the name to use.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Former name of a field → how it is called."""
    given: frozenset[str]
    """Names of the fields that were given rather than left at their defaults."""

    def __new__(cls, *values: Any, **names: Any) -> Self:
        """Check the names before the fields are set."""
        if values:
            raise TrainingError(f"{cls.__name__}: settings are given by name, such as {cls.__name__}(learning_rate=…)")
        cls.check_names(names)
        settings = super().__new__(cls)
        object.__setattr__(settings, "given", frozenset(names))
        return settings

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of all fields."""
        return frozenset(item.name for item in _fields(cls))

    @classmethod
    def check_names(cls, names: Mapping[str, Any]) -> None:
        """Refuse names that are no field's.

        Raises:
            TrainingError: One is unknown or was renamed.
        """
        for name in names:
            if name in cls.RENAMED:
                raise TrainingError(f"{cls.__name__}({name}=…): it is called {cls.RENAMED[name]}")
            if name not in cls.names():
                near = get_close_matches(name, cls.names(), 1)
                hint = f"did you mean {near[0]!r}?" if near else "further TRL options go into options={…}"
                raise TrainingError(f"{cls.__name__}({name}=…): there is no such setting; {hint}")

    @classmethod
    def of(cls, settings: object, keywords: Mapping[str, Any]) -> Self:
        """Return settings with keywords added.

        Args:
            settings: Settings, or None.
            keywords: Further fields.

        Raises:
            TrainingError: `settings` is something else, or a field is given in both.
        """
        if settings is None:
            return cls(**keywords)
        if not isinstance(settings, cls):
            raise TrainingError(f"expected {cls.__name__} or keywords, not {settings!r:.80}; give other values by name")
        cls.check_names(keywords)
        if twice := sorted(settings.given & set(keywords)):
            raise TrainingError(f"{twice[0]!r} is given twice: in the {cls.__name__} and as a keyword; keep one")
        return settings.replace(**keywords)

    def replace(self, **changes: Any) -> Self:
        """Return the same settings with some fields changed."""
        values = {name: getattr(self, name) for name in self.given}
        return type(self)(**{**values, **changes})

    @property
    def differences(self) -> dict[str, Any]:
        """The fields that differ from their defaults, in order."""
        return {
            item.name: getattr(self, item.name)
            for item in _fields(type(self))
            if getattr(self, item.name) != _default(item)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain JSON values."""
        return {item.name: _plain(getattr(self, item.name)) for item in _fields(type(self))}

    def refuse(self, name: str, reason: str) -> None:
        """Raise an error about one field's value."""
        raise TrainingError(f"{type(self).__name__}({name}={getattr(self, name)!r}): {reason}")

    def check_numbers(self, least: Mapping[str, float], whole: frozenset[str]) -> None:
        """Refuse numbers that are too small or not of their kind.

        Args:
            least: Field → smallest value.
            whole: Fields whose values are whole numbers.
        """
        for name, limit in least.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int if name in whole else int | float):
                self.refuse(name, f"it takes a {'whole ' if name in whole else ''}number")
            if not value >= limit:
                self.refuse(name, f"it must be at least {limit:g}")

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Refuse a value that is not one of the choices."""
        if getattr(self, name) not in choices:
            self.refuse(name, f"choose {' or '.join(map(repr, choices))}")

    def __repr__(self) -> str:
        """Return the call that makes them: only what differs from the defaults."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.differences.items())})"

    def _repr_html_(self) -> str:
        docs, changes = field_docs(type(self)), self.differences
        rows = [
            [item.name, repr(getattr(self, item.name)), "changed" if item.name in changes else "", docs[item.name]]
            for item in _fields(type(self))
        ]
        return _html.card(type(self).__name__, _html.table(["setting", "value", "", "meaning"], rows))


def field_docs(cls: type) -> dict[str, str]:
    """Return field → the text under it; empty where the source cannot be had."""
    docs = {item.name: "" for item in _fields(cls)}
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return docs
    assert isinstance(body, ast.ClassDef)
    for item, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and item.target.id in docs:
                docs[item.target.id] = " ".join(str(value.value).split())
    return docs


def _fields(cls: type) -> tuple[Field[Any], ...]:
    assert is_dataclass(cls)
    return fields(cls)


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(entry) for name, entry in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, str | int | float) else repr(value)
