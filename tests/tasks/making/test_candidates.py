"""Candidates come in an order that only the seed decides, take turns, differ in meaning, and apply with git."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from swebench_lab.tasks.making.candidates import Candidate, Pool, combine, is_source, read_modules
from swebench_lab.tasks.making.families import families, shapes
from swebench_lab.tasks.making.python.module import Module
from tests.tasks.making.shelf import CODE, write


def drawn(seed: int, count: int, **options: object) -> list[Candidate]:
    pool = Pool([Module("shelf.py", CODE)], seed, **options)  # type: ignore[arg-type]
    used: Counter[str] = Counter()
    load: Counter[tuple[str, str]] = Counter()
    found = []
    for _ in range(count):
        candidate = pool.draw(used, load)
        if candidate is None:
            break
        used[candidate.strategy] += 1
        load[candidate.path, candidate.targets[0]] += 1
        found.append(candidate)
    return found


def test_the_order_depends_on_the_seed_alone() -> None:
    first, again, other = (drawn(seed, 20) for seed in (0, 0, 1))
    assert [c.patch for c in first] == [c.patch for c in again]
    assert [c.patch for c in first] != [c.patch for c in other]


def test_strategies_and_functions_take_turns() -> None:
    found = drawn(0, 22)
    strategies = Counter(c.strategy for c in found)
    assert len(strategies) >= 10 and max(strategies.values()) <= 3
    assert len({c.targets for c in found}) >= 6


def test_all_candidates_differ_in_meaning() -> None:
    found = drawn(0, 10_000)
    assert 60 < len(found) == len({c.after for c in found})


def test_functions_that_no_test_reaches_are_left_out() -> None:
    line = 1 + CODE.split("\n").index('def label(title, width=10, fill="."):')
    assert {c.targets for c in drawn(0, 100, reached={"shelf.py": frozenset({line})})} == {("label",)}


def test_functions_whose_tests_take_long_come_after_all_others() -> None:
    last = {"label", "Shelf.pages"}
    found = drawn(0, 10_000, is_slow=lambda path, entity: entity.name in last)
    slow = {
        strategy: [c.targets[0] in last for c in found if c.strategy == strategy]
        for strategy in {c.strategy for c in found}
    }
    assert len(found) == len(drawn(0, 10_000)) and any(any(places) for places in slow.values())
    assert all(places == sorted(places) for places in slow.values())


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ValueError, match="no strategy is called 'func_pm_magic'; known are func_pm_op_change"):
        Pool([], 0, strategies=["func_pm_magic"])


def test_combinations_join_edits_that_do_not_touch_and_stay_in_one_file() -> None:
    singles = drawn(0, 12)
    joined = list(combine(singles, 3, 0))
    assert [c.patch for c, _ in joined] == [c.patch for c, _ in combine(singles, 3, 0)]
    assert {c.strategy for c, _ in joined} <= {"combine_func", "combine_file"}
    assert max(Counter(part for _, group in joined for part in group).values()) <= 2
    for candidate, group in joined:
        assert sorted(e.description for e in candidate.edits) == sorted(c.edits[0].description for c in group)
        assert candidate.strategy == ("combine_func" if len(set(candidate.targets)) == 1 else "combine_file")


def test_patches_apply_with_git_and_give_the_edited_file(tmp_path: Path) -> None:
    write(tmp_path / "repo")
    for candidate in drawn(0, 12):
        (tmp_path / "repo" / "shelf.py").write_text(CODE)
        subprocess.run(["git", "apply"], cwd=tmp_path / "repo", input=candidate.patch.encode(), check=True)
        assert (tmp_path / "repo" / "shelf.py").read_text() == candidate.after


def test_only_the_projects_own_code_is_read(tmp_path: Path) -> None:
    write(tmp_path / "repo")
    (tmp_path / "repo" / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "repo" / "broken.py").write_text("def f(:\n")
    assert [module.path for module in read_modules(tmp_path / "repo")] == ["shelf.py"]
    own = ["a.py", "src/p/a.py", "testing.py", "p/contest.py"]
    others = [
        "setup.py",
        "tests/a.py",
        "p/tests/a.py",
        "test_a.py",
        "p/a_test.py",
        "docs/conf.py",
        ".hidden/a.py",
        "a.txt",
    ]
    assert [path for path in own + others if is_source(path)] == own


def test_tasks_that_touch_code_of_the_same_shape_are_one_family() -> None:
    assert families([["a"], ["b"], ["b", "c"], ["d", "c"], ["e"]]) == ["a", "b", "b", "b", "e"]
    twins = Module(
        "m.py", "def f(a):\n    return a + 1\n\n\ndef g(b):\n    return b + 2\n\n\ndef h(a):\n    return [a]\n"
    )
    pool = Pool([twins], 0)
    found = [pool.draw({}, {}) for _ in range(3)]
    assert len({shapes(c) for c in found if c}) == 1


def test_a_class_edit_shares_the_shape_of_the_method_it_takes() -> None:
    remove = next(c for c in drawn(0, 200) if c.description == "Shelf: the method `pages` is lost")
    inside = next(c for c in drawn(0, 200) if c.targets == ("Shelf.pages",))
    assert set(shapes(inside)) < set(shapes(remove))
