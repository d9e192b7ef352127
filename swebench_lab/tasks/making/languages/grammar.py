"""Grammars: the languages that can be edited, what their grammars call things, and how their tests run by default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TaskError

if TYPE_CHECKING:
    from tree_sitter import Parser, Tree

_AWAY = {"vendor", "node_modules", "third_party", "testdata", "dist", "build", "docs", "doc", "examples", "example"}
_TEST_FOLDERS = {"test", "tests", "__tests__", "spec"}


@dataclass(frozen=True)
class Language:
    """A language as tree-sitter's grammar of it has it.

    Args:
        name: Name, as `make_tasks(language=…)` takes it.
        grammar: Returns what tree-sitter's package of the grammar holds.
        endings: How its files' names end.
        tests: Pattern of the names of test files.
        functions: Node types of functions.
        blocks: Node types that hold statements.
        numbers: Node types of whole numbers, and of others.
        texts: Node types of string literals.
        assignments: Node types of statements that assign, or that hold nothing but an assignment.
        loops: Node types of loops.
        spec: How its tests run where nobody says; empty: somebody must.
    """

    name: str
    grammar: Callable[[], object]
    endings: tuple[str, ...]
    tests: re.Pattern[str]
    functions: frozenset[str]
    blocks: frozenset[str]
    numbers: frozenset[str]
    texts: frozenset[str]
    assignments: frozenset[str]
    loops: frozenset[str]
    spec: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def parser(self) -> Parser:
        """A parser of this language.

        Raises:
            TaskError: tree-sitter is not installed.
        """
        try:
            import tree_sitter

            return tree_sitter.Parser(tree_sitter.Language(self.grammar()))
        except ImportError as error:
            raise TaskError(
                f"making tasks in {self.name}: {error}; its syntax is read by tree-sitter: "
                "pip install 'swebench-lab[languages]'"
            ) from error

    def parse(self, text: bytes) -> Tree:
        """Return the syntax tree of a file."""
        return self.parser.parse(text)

    def is_file(self, path: str) -> bool:
        """Whether a path is a file of this language, in a folder that is neither hidden nor of others' code."""
        parts = PurePosixPath(path).parts
        return path.endswith(self.endings) and not any(part in _AWAY or part.startswith(".") for part in parts[:-1])

    def is_test(self, path: str) -> bool:
        """Whether a path is a test file of this language."""
        parts = PurePosixPath(path).parts
        return self.is_file(path) and bool(self.tests.search(parts[-1]) or _TEST_FOLDERS.intersection(parts[:-1]))

    def is_source(self, path: str) -> bool:
        """Whether a path is code of the project itself: no test, no declaration file, no configuration."""
        name = PurePosixPath(path).name
        return self.is_file(path) and not self.is_test(path) and not re.search(r"\.d\.ts$|\.config\.|\.min\.", name)


def _go() -> object:
    import tree_sitter_go

    return tree_sitter_go.language()


def _javascript() -> object:
    import tree_sitter_javascript

    return tree_sitter_javascript.language()


def _typescript() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_typescript()


_SCRIPT: Mapping[str, Any] = {
    "functions": frozenset({
        "function_declaration", "generator_function_declaration", "method_definition", "arrow_function",
        "function_expression", "generator_function",
    }),
    "blocks": frozenset({"statement_block"}),
    "numbers": frozenset({"number"}),
    "texts": frozenset({"string", "template_string"}),
    "assignments": frozenset({"expression_statement"}),
    "loops": frozenset({"for_statement", "for_in_statement", "while_statement"}),
}  # fmt: skip
_PLAIN = {"test_arguments": "none", "packages": [], "paths": []}
LANGUAGES = {
    language.name: language
    for language in (
        Language(
            "go", _go, (".go",), re.compile(r"_test\.go$"),
            functions=frozenset({"function_declaration", "method_declaration"}),
            blocks=frozenset({"statement_list"}),
            numbers=frozenset({"int_literal", "float_literal"}),
            texts=frozenset({"interpreted_string_literal", "raw_string_literal", "rune_literal"}),
            assignments=frozenset({"assignment_statement", "inc_statement", "dec_statement"}),
            loops=frozenset({"for_statement"}),
            spec={**_PLAIN, "test_command": "go test -v ./...", "log_parser": "parse_log_gotest",
                  "env": {"GOCACHE": "/tmp/go-cache", "GOFLAGS": "-buildvcs=false", "GOTELEMETRY": "off"}},
        ),
        Language(
            "javascript", _javascript, (".js", ".mjs", ".cjs", ".jsx"), re.compile(r"[._-](test|spec)\.[cm]?jsx?$"), **_SCRIPT,
            spec={**_PLAIN, "test_command": "node --test --test-reporter=tap", "log_parser": "parse_log_tap"},
        ),
        Language("typescript", _typescript, (".ts", ".mts", ".cts"), re.compile(r"[._-](test|spec)\.[cm]?ts$"), **_SCRIPT),
    )
}  # fmt: skip
"""Name → language."""


def language_of(name: str) -> Language:
    """Return the language of a name.

    Raises:
        TaskError: There is none.
    """
    if name not in LANGUAGES:
        raise TaskError(f"making tasks: language={name!r} must be python, {', '.join(LANGUAGES)}")
    return LANGUAGES[name]
