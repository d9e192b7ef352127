"""Grammar: functions over a list of numbers as short pipelines, every stage both a phrase and code."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

VERBS = (
    "add", "apply", "calc", "check", "count", "eval", "find", "fold", "get", "grade", "make", "mark", "mix", "pick",
    "plan", "rank", "read", "scan", "take", "tell", "trim", "walk",
)  # fmt: skip
NOUNS = (
    "bolt", "card", "cart", "desk", "disk", "fish", "gate", "grid", "hall", "lamp", "leaf", "lens", "node", "page",
    "pipe", "port", "ring", "road", "room", "seed", "shop", "step", "tank", "team", "tree", "user", "ward", "word",
)  # fmt: skip
LISTS = ("rows", "items", "nums", "data", "xs", "vals", "seq", "marks")
EACH = ("v", "x", "n", "e", "k", "t")
TOTALS = ("out", "total", "acc", "res")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline.

    Args:
        kind: `keep` (a condition on one value), `each` (an expression of one value), `part` (an expression of the
            list) or `give` (the result).
        phrase: What the issue says of it.
        code: The expression; `{v}` is one value, `{a}` the list, `{c}` and `{d}` constants.
        low: Smallest constant.
        high: Largest constant.
    """

    kind: str
    phrase: str
    code: str
    low: int = 3
    high: int = 40


KEEP = (
    Stage("keep", "keep those above {c}", "{v} > {c}"),
    Stage("keep", "keep those from {c} up", "{v} >= {c}"),
    Stage("keep", "keep those below {c}", "{v} < {c}"),
    Stage("keep", "keep those up to {c}", "{v} <= {c}"),
    Stage("keep", "leave out {c}", "{v} != {c}"),
    Stage("keep", "keep multiples of {c}", "{v} % {c} == 0", 2, 9),
    Stage("keep", "leave out multiples of {c}", "{v} % {c} != 0", 2, 9),
    Stage("keep", "keep those below {c} or above {d}", "{v} < {c} or {v} > {d}"),
    Stage("keep", "keep those above {c} and below {d}", "{v} > {c} and {v} < {d}"),
)
EACH_STAGES = (
    Stage("each", "add {c} to each", "{v} + {c}"),
    Stage("each", "take {c} from each", "{v} - {c}"),
    Stage("each", "multiply each by {c}", "{v} * {c}", 2, 12),
    Stage("each", "divide each by {c}", "{v} // {c}", 2, 9),
    Stage("each", "reduce each modulo {c}", "{v} % {c}", 3, 15),
    Stage("each", "cap each at {c}", "min({v}, {c})"),
    Stage("each", "raise each to {c}", "max({v}, {c})"),
    Stage("each", "measure how far each is from {c}", "abs({v} - {c})"),
    Stage("each", "subtract each from {c}", "{c} - {v}"),
)
PART = (
    Stage("part", "skip the first {c}", "{a}[{c}:]", 1, 3),
    Stage("part", "take the first {c}", "{a}[:{c}]", 1, 4),
    Stage("part", "take the last {c}", "{a}[-{c}:]", 1, 4),
    Stage("part", "drop the last {c}", "{a}[:-{c}]", 1, 3),
    Stage("part", "take one in {c}", "{a}[::{c}]", 2, 4),
    Stage("part", "sort them", "sorted({a})"),
)
GIVE = (
    Stage("give", "give the sum", "sum({a})"),
    Stage("give", "count them", "len({a})"),
    Stage("give", "return them", "{a}"),
    Stage("give", "give the largest or {c}", "max({a}, default={c})"),
    Stage("give", "give the smallest or {c}", "min({a}, default={c})"),
    Stage("give", "give the sum plus {c}", "sum({a}) + {c}"),
    Stage("give", "tell whether any is above {c}", "any({v} > {c} for {v} in {a})"),
    Stage("give", "tell whether all are below {c}", "all({v} < {c} for {v} in {a})"),
)


@dataclass(frozen=True, slots=True)
class Function:
    """One function: its name, what it must do in words, its code, numbers worth testing with, and its family."""

    name: str
    says: str
    lines: tuple[str, ...]
    numbers: tuple[int, ...]
    family: str

    @property
    def text(self) -> str:
        """The source of the function."""
        return "\n".join(self.lines) + "\n"


def family_of(source: str) -> str:
    """Return the hash of a function's syntax tree in which every name and constant is the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in _BUILTINS:
            node.id = "_"
        elif isinstance(node, ast.Constant):
            node.value = 0
        elif isinstance(node, ast.arg):
            node.arg = "_"
        elif isinstance(node, ast.FunctionDef):
            node.name = "_"
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


_BUILTINS = frozenset({"sum", "len", "max", "min", "any", "all", "abs", "sorted"})


def draw(dice: Random, names: Sequence[str] = ()) -> Function:
    """Draw a function whose name is none of `names`."""
    while (name := f"{dice.choice(VERBS)}_{dice.choice(NOUNS)}") in names:
        pass
    pool = [*KEEP, *KEEP, *EACH_STAGES, *EACH_STAGES, *PART]
    count = 1 if dice.random() < 0.3 else 2
    stages = [dice.choice(pool) for _ in range(count)]
    if count == 2 and stages[0] is stages[1]:
        stages.pop()
    give = dice.choice(GIVE)
    words = {"a": dice.choice(LISTS), "v": dice.choice(EACH)}
    steps: list[tuple[Stage, dict[str, str | int]]] = []
    numbers: list[int] = []
    for stage in (*stages, give):
        low = dice.randint(stage.low, stage.high)
        high = low + dice.randint(2, 20)
        steps.append((stage, {**words, "c": low, "d": high}))
        numbers += [low, high] if "{d}" in stage.code else [low] if "{c}" in stage.code else []
    phrases = [stage.phrase.format(**values) for stage, values in steps]
    says = ", ".join(phrases[:-1]) + f" and {phrases[-1]}"
    looped = all(s.kind in ("keep", "each") for s in stages) and give in GIVE[:3] and dice.random() < 0.5
    body = _loop(steps, words, dice.choice(TOTALS)) if looped else _pipeline(steps, words)
    head = f"def {name}({words['a']}):"
    lines = (head, *(f"    {line}" for line in body))
    key: tuple[bool | str, ...] = (looped, *[stage.code for stage, _ in steps])
    if key not in _families:  # names and constants make no difference, so each shape is parsed once
        _families[key] = family_of("\n".join(lines))
    return Function(name, says, lines, tuple(numbers), _families[key])


_families: dict[tuple[bool | str, ...], str] = {}


_Chosen = Sequence[tuple[Stage, dict[str, str | int]]]


def _pipeline(steps: _Chosen, words: dict[str, str]) -> list[str]:
    """One line a stage, each making a new list of the last."""
    a, v = words["a"], words["v"]
    lines = []
    for stage, values in steps:
        code = stage.code.format(**values)
        if stage.kind == "keep":
            lines.append(f"{a} = [{v} for {v} in {a} if {code}]")
        elif stage.kind == "each":
            lines.append(f"{a} = [{code} for {v} in {a}]")
        else:
            lines.append(f"{a} = {code}" if stage.kind == "part" else f"return {code}")
    return lines


def _loop(steps: _Chosen, words: dict[str, str], total: str) -> list[str]:
    """One loop in which conditions nest."""
    a, v = words["a"], words["v"]
    give = steps[-1][0]
    lines = [f"{total} = []" if give is GIVE[2] else f"{total} = 0", f"for {v} in {a}:"]
    depth = 1
    for stage, values in steps[:-1]:
        code = stage.code.format(**values)
        lines.append("    " * depth + (f"if {code}:" if stage.kind == "keep" else f"{v} = {code}"))
        depth += stage.kind == "keep"
    last = {GIVE[0]: f"{total} += {v}", GIVE[1]: f"{total} += 1", GIVE[2]: f"{total}.append({v})"}[give]
    return [*lines, "    " * depth + last, f"return {total}"]
