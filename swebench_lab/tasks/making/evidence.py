"""Evidence: short programs that do one thing on the clean tree and another on the broken one, seen by running them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from swebench_lab.tasks.making.candidates import Candidate
from swebench_lab.tasks.making.python.snippets import Failure, Snippet, make_snippets
from swebench_lab.tasks.making.python.syntax import parse, segment
from swebench_lab.tasks.making.validation import Baseline, Outcome, Suite, Trial

_TESTS, _EACH, _SNIPPETS = 8, 2, 3
"""How many test functions are looked into, how many cases of each, how many snippets of each case."""
_MOST = 3
"""How many pieces of evidence one issue may show."""
_BRIEF = 350
"""What a further piece may cost."""
_ROUNDS = 3
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Evidence:
    """A snippet, what it gives, and what it should give.

    Args:
        snippet: The code.
        broken: What it gives on the broken tree.
        clean: What it gives on the clean tree.
        test: The test it was taken from.
    """

    snippet: Snippet
    broken: Outcome
    clean: Outcome
    test: str

    @property
    def shows(self) -> bool:
        """Whether the two trees can be told apart by it."""
        if "none" in (self.broken.kind, self.clean.kind):
            return False
        expects_error = self.snippet.wants_error
        if self.clean.kind == "error" and not expects_error:
            return False  # the snippet does not stand by itself
        return _bare(self.broken) != _bare(self.clean)

    @property
    def cost(self) -> float:
        """How much it asks of a reader: the lower, the better."""
        texts = (self.broken.text, self.clean.text)
        cost = self.snippet.size + 0.5 * sum(map(len, texts))
        cost += 200 * any(_ADDRESS.search(text) for text in texts)
        (last,) = parse(self.snippet.probe).body
        expression = last.value if isinstance(last, ast.Expr) else last
        cost += 60 * isinstance(expression, (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp))
        return cost + 300 * any(len(text) > 500 for text in texts)


def _bare(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.kind, outcome.type, _ADDRESS.sub("", outcome.text)


def gather(
    trial: Trial, baseline: Baseline, suite: Suite, checkout: Path, known: Container[str] = ()
) -> tuple[Evidence, ...]:
    """Return evidence of what a candidate breaks, the most telling first; none where no test can be cut down to it.

    Where a candidate edits several functions, each is shown if possible.

    Args:
        trial: The candidate, and how tests fail with it.
        baseline: Which tests reach what.
        suite: Runs snippets on both trees.
        checkout: The clean tree's files.
        known: Names of the functions and classes that the project defines.
    """
    pairs: list[tuple[Failure, Snippet]] = []
    for failure in _telling(trial, baseline):
        source = checkout / failure.test.partition("::")[0]
        snippets = make_snippets(failure, source.read_text("utf-8"), list(_conftests(checkout, failure.test)), known)
        pairs += [(failure, snippet) for snippet in snippets[:_SNIPPETS]]

    def run(items: Sequence[tuple[Failure, Snippet]]) -> list[Evidence]:
        snippets = [snippet for _, snippet in items]
        faulty = suite.outcomes(snippets, trial.candidate)
        clean = suite.outcomes(snippets, None)
        return [Evidence(s, b, c, f.test) for (f, s), b, c in zip(items, faulty, clean, strict=True)]

    pieces = [evidence for evidence in run(pairs) if evidence.shows]
    best = _pick(pieces, trial, baseline)
    return tuple(
        shortened(evidence, lambda e, s: run([(Failure(e.test, 0, "", ""), x) for x in s])) for evidence in best
    )


def carried_over(parts: Sequence[Sequence[Evidence]], candidate: Candidate, suite: Suite) -> tuple[Evidence, ...]:
    """Return evidence of a combination: what showed each of its edits alone, run again with all of them made.

    Args:
        parts: The evidence of each edit.
        candidate: The combination.
        suite: Runs snippets on both trees.

    Returns:
        At least one piece an edit; nothing at all where an edit has none that still shows.
    """
    everything = [evidence for part in parts for evidence in part]
    outcomes = suite.outcomes([evidence.snippet for evidence in everything], candidate)
    now = {old: replace(old, broken=outcome) for old, outcome in zip(everything, outcomes, strict=True)}
    showing = [[now[old] for old in part if now[old].shows] for part in parts]
    if not all(showing):
        return ()
    first = [part[0] for part in showing]
    return tuple(dict.fromkeys([*first, *(e for part in showing for e in part[1:])]))[: max(_MOST, len(first))]


def _conftests(checkout: Path, test: str) -> Iterator[str]:
    for folder in reversed(PurePosixPath(test.partition("::")[0]).parents):
        path = checkout / folder / "conftest.py"
        if path.is_file():
            yield path.read_text("utf-8")


def _telling(trial: Trial, baseline: Baseline) -> list[Failure]:
    """Return a few failures of different tests, those that reach the least code first, each edited function in turn."""
    deciding = set(trial.fail_to_pass)
    failures = sorted(
        (f for f in trial.failures if f.test in deciding and f.line),
        key=lambda f: (baseline.breadth.get(f.test, 0), f.test),
    )
    path = trial.candidate.path
    groups = [[f for f in failures if f.test in baseline.reaching(path, e)] for e in trial.candidate.entities]
    by_test: dict[str, list[Failure]] = {}
    for group in [*groups, failures] * (_TESTS // (len(groups) + 1) + 1):
        for failure in group:
            cases = by_test.setdefault(failure.test.partition("[")[0], [])
            if failure not in cases and len(cases) < _EACH and len(by_test) <= _TESTS:
                cases.append(failure)
                break
    return [failure for cases in by_test.values() for failure in cases]


def _pick(pool: Sequence[Evidence], trial: Trial, baseline: Baseline) -> list[Evidence]:
    """Return the best evidence of each edited function, and more of other tests while there is room."""
    order = sorted(pool, key=lambda e: e.cost)
    path, entities = trial.candidate.path, trial.candidate.entities
    selection: list[Evidence] = []
    if len(entities) > 1:
        only = [baseline.reaching(path, entity) for entity in entities]
        for i, mine in enumerate(only):
            others = frozenset().union(*only[:i], *only[i + 1 :])
            best = [e for e in order if e.test in mine - others] or [e for e in order if e.test in mine]
            selection += [e for e in best[:1] if e not in selection]
    for evidence in order:
        functions = {e.test.partition("[")[0] for e in selection}
        if len(selection) < _MOST and evidence.test.partition("[")[0] not in functions and _adds(evidence, selection):
            selection.append(evidence)
    return selection


def _adds(evidence: Evidence, previous: Iterable[Evidence]) -> bool:
    """Whether a piece of evidence says something new, and briefly."""
    if not (others := list(previous)):
        return True
    return evidence.cost < _BRIEF and all(e.snippet.probe != evidence.snippet.probe for e in others)


# --- making it shorter ------------------------------------------------------------------------------------------------

Runner = Callable[[Evidence, Sequence[Snippet]], list[Evidence]]


def shortened(evidence: Evidence, run: Runner) -> Evidence:
    """Drop statements and named arguments that are not needed to show the same kind of difference.

    Args:
        evidence: What is made shorter.
        run: Runs snippets on both trees.
    """
    for _ in range(_ROUNDS):
        smaller = list(_smaller(evidence.snippet, _units(evidence.snippet)))
        good = [unit for unit, e in zip(_units(evidence.snippet), _run(evidence, smaller, run), strict=True) if e]
        if not good:
            break
        prefixes = [good[:n] for n in range(len(good), 0, -1)]
        joint = [_without(evidence.snippet, prefix) for prefix in prefixes]
        shorter = next((e for e in _run(evidence, joint, run) if e), None)
        if shorter is None or shorter.snippet == evidence.snippet:
            break
        evidence = shorter
    return evidence


def _run(evidence: Evidence, snippets: Sequence[Snippet | None], run: Runner) -> list[Evidence | None]:
    """Return, for each snippet, the evidence it is, or nothing where it does not show the same kind of difference."""
    there = [snippet for snippet in snippets if snippet is not None]
    answers = iter(run(evidence, there) if there else [])
    results = [next(answers) if snippet is not None else None for snippet in snippets]
    return [e if e and e.shows and _alike(e, evidence) else None for e in results]


def _alike(one: Evidence, other: Evidence) -> bool:
    """Whether two pieces show the same kind of difference: the same types, and for errors the same message."""
    pairs = ((one.broken, other.broken), (one.clean, other.clean))
    return all((a.kind, a.type) == (b.kind, b.type) and (a.kind != "error" or _bare(a) == _bare(b)) for a, b in pairs)


_Unit = tuple[int, int]  # a statement, and which of its named arguments in order of the walk; -1: the whole statement


def _units(snippet: Snippet) -> list[_Unit]:
    """Return what could be dropped from a snippet: its statements but for imports, and named arguments."""
    units: list[_Unit] = []
    for number, statement in enumerate([*parse(snippet.setup).body, parse(snippet.probe).body[0]]):
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
            continue
        if number < len(parse(snippet.setup).body):
            units.append((number, -1))
        units += [(number, i) for i, _ in enumerate(_keywords(statement))]
    return units[:24]


def _keywords(statement: ast.AST) -> list[tuple[ast.Call, ast.keyword]]:
    return [(n, k) for n in ast.walk(statement) if isinstance(n, ast.Call) for k in n.keywords]


def _smaller(snippet: Snippet, units: Iterable[_Unit]) -> Iterator[Snippet | None]:
    return (_without(snippet, [unit]) for unit in units)


def _without(snippet: Snippet, units: Sequence[_Unit]) -> Snippet | None:
    """Return a snippet without some of its parts, and without the imports and helpers that nothing uses then."""
    tree, probe = parse(snippet.setup), parse(snippet.probe).body[0]
    remaining: list[tuple[ast.stmt, str]] = []
    for number, statement in enumerate([*tree.body, probe]):
        if (number, -1) in units:
            continue
        doomed = [pair for i, pair in enumerate(_keywords(statement)) if (number, i) in units]
        for call, keyword in doomed:
            call.keywords.remove(keyword)
        source = segment(snippet.setup, statement) if statement is not probe and not doomed else None
        remaining.append((statement, source or ast.unparse(statement)))
    *setup, (last, text) = remaining
    references = {n.id for s, _ in (*setup, (last, text)) for n in ast.walk(s) if isinstance(n, ast.Name)}
    lines = [pruned for statement, source in setup if (pruned := _prune(statement, source, references))]
    return replace(snippet, setup="\n".join(lines), probe=text)


def _prune(statement: ast.stmt, source: str, references: set[str]) -> str:
    """Return a statement's text; of an import only the used names, of an unused helper nothing."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return source + "\n" if statement.name in references else ""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        statement.names = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) in references]
        return ast.unparse(statement) if statement.names else ""
    return source
