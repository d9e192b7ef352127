"""Cases: where the code of a test stands in the test files of a language, and those files without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swebench_lab.tasks.making.languages.tree import TreeModule, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

_CALLS = {"test", "it", "specify"}
_QUOTES = "'\"`"


@dataclass(frozen=True)
class Case:
    """The code of one test.

    Args:
        path: Its file.
        name: What it is called there.
        start: Its first byte, with the whole line.
        end: The byte after its last.
        body: What it does, without the frame around it.
        first_line: Line of the file in which the body begins, from 1.
    """

    path: str
    name: str
    start: int
    end: int
    body: str
    first_line: int


def cases(module: TreeModule) -> tuple[Case, ...]:
    """Return the tests of a test file, in order."""
    return tuple(_cases(module, module.root))


def _cases(module: TreeModule, node: Node) -> Iterator[Case]:
    for child in node.named_children:
        pair = _go_test(child) if module.language.name == "go" else _call(child)
        if pair is None:
            yield from _cases(module, child)
            continue
        name, body = pair
        start, end = module.line_range(child)
        text = text_of(body).strip().removeprefix("{").removesuffix("}").strip("\n")
        first = body.start_point[0] + 1 + text_of(body).removeprefix("{").startswith("\n")
        yield Case(module.path, name, start, end, _dedented(text), first)


def _go_test(node: Node) -> tuple[str, Node] | None:
    name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
    if node.type == "function_declaration" and name and body and text_of(name).startswith(("Test", "Example", "Fuzz")):
        return text_of(name), body
    return None


def _call(node: Node) -> tuple[str, Node] | None:
    """Return name and body of a statement `test("name", () => { … })`, or of its relatives."""
    call = node.named_children[0] if node.type == "expression_statement" and node.named_children else None
    if call is None or call.type != "call_expression":
        return None
    function, arguments = call.child_by_field_name("function"), call.child_by_field_name("arguments")
    if function is None or arguments is None or text_of(function).partition(".")[0] not in _CALLS:
        return None
    values = arguments.named_children
    body = values[-1].child_by_field_name("body") if values else None
    if body is None or values[0].type not in ("string", "template_string"):
        return None
    return text_of(values[0]).strip(_QUOTES), body


def _dedented(text: str) -> str:
    import textwrap

    return textwrap.dedent(text.expandtabs(4)).strip()


def of_test(test: str, known: Iterable[Case]) -> tuple[Case, ...]:
    """Return the code of a test: of its function for a subtest, and of each test that is called so.

    Args:
        test: Its id, as the log has it: `TestName/part` for Go, the name with what is before it elsewhere.
        known: The tests of all files.
    """
    root = test.partition("/")[0]
    matching = [case for case in known if case.name and (case.name == root or test.endswith(case.name))]
    longest = max((len(case.name) for case in matching), default=0)
    return tuple(case for case in matching if len(case.name) == longest)


def without(texts: Mapping[str, str], doomed: Iterable[Case]) -> dict[str, str]:
    """Return the files that hold some tests, without them.

    Args:
        texts: Path to content.
        doomed: The tests.
    """
    ranges: dict[str, set[tuple[int, int]]] = {}
    for case in doomed:
        ranges.setdefault(case.path, set()).add((case.start, case.end))
    shorter = {}
    for path, places in ranges.items():
        data = texts[path].encode()
        for start, end in sorted(places, reverse=True):
            data = data[:start] + data[end:]
        shorter[path] = data.decode()
    return shorter
