"""The micro set: the same on every machine, families apart, every bug noticed, and graded like any other task."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

import swebench_lab as lab
from swebench_lab.agents.tools.in_sandbox.micro import listing, replaced, substituted
from swebench_lab.records.task import Tasks
from swebench_lab.tasks.micro import build, grammar
from swebench_lab.tasks.micro.bugs import edits, undone
from swebench_lab.tasks.micro.teacher import MicroTeacher, RandomEdits, candidates


@pytest.fixture(scope="module")
def few() -> Tasks:
    return build.load("test", test=3)


def test_the_same_seed_gives_the_same_tasks_for_ever() -> None:
    assert build.load("train", train=2).ids == ("micro__get_page.07448f04c93a", "micro__count_gate.803d004c7c85")
    assert build.load("train", seed=1, train=2).ids != build.load("train", train=2).ids


def test_no_family_is_on_both_sides_and_there_are_hundreds() -> None:
    sides = [{d.function.family for d in build.distinct(split, 250)} for split in ("train", "test")]
    assert not sides[0] & sides[1]
    assert min(map(len, sides)) > 100


def test_a_family_is_blind_to_names_and_constants_and_to_nothing_else() -> None:
    first = "def add_one(xs):\n    xs = [v + 3 for v in xs]\n    return sum(xs)\n"
    other = "def mix_two(rows):\n    rows = [k + 40 for k in rows]\n    return sum(rows)\n"
    assert grammar.family_of(first) == grammar.family_of(other)
    assert grammar.family_of(first) != grammar.family_of(first.replace("+", "-"))
    assert grammar.family_of(first) != grammar.family_of(first.replace("sum", "max"))


def test_every_function_is_in_the_family_its_own_text_says() -> None:
    dice = Random(0)
    drawn = [grammar.draw(dice) for _ in range(300)]
    assert all(function.family == grammar.family_of(function.text) for function in drawn)


def test_the_fix_passes_the_suite_and_the_bug_fails_part_of_it() -> None:
    for draft in build.distinct("train", 60):
        assert draft.answer_to(draft.fix) == "passed"
        assert substituted(draft.bad, draft.fix) == draft.good
        assert draft.failing and draft.passing


def test_edits_take_each_other_back() -> None:
    line = "    rows = [v for v in rows if v % 3 == 0]"
    pairs = [pair for pair in edits(line) if undone(line, replaced(line, *pair) or "", pair)]
    assert ("%", "//") in pairs and ("3", "4") in pairs and ("==", "!=") in pairs


@pytest.mark.parametrize("order", ["", "@1", "@9 a b", "@1 nowhere x", "1 def x", "@0 def x", "@1 a b c"])
def test_an_order_that_cannot_be_carried_out_is_told(order: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        substituted("def f(a):\n    return a\n", order)


def test_a_guesser_finds_every_fix_among_what_it_tries() -> None:
    for draft in build.distinct("train", 60):
        assert draft.fix in candidates(listing(draft.bad), draft.function.name)


def test_tasks_are_certified_and_solved_in_real_sandboxes(few: Tasks) -> None:
    with lab.SandboxFactory("namespace") as sandboxes:
        evaluator = lab.Evaluator(sandboxes)
        assert evaluator.check(few, progress=False)["status"].to_list() == ["passed"] * len(few)
        collector = lab.RolloutCollector(sandboxes, evaluator, workers=2)
        taught = collector.collect(lab.Agent(MicroTeacher(few, 1.0), "micro"), few, progress=False)
        guessed = collector.collect(lab.Agent(RandomEdits(), "micro", max_steps=3), few, progress=False)
    assert taught.resolved_rate == 1.0
    assert all(len(r.trajectory.steps) == 4 for r in taught)  # view, a slip, the fix, submit
    assert len(guessed.graded) == len(few)
    # what a demonstration says without a sandbox is what was recorded in one
    from swebench_lab.training.data.demonstrations import demonstration

    by_id = {draft.id: draft for draft in build.distinct("test", 3)}
    for rollout in taught:
        assert demonstration(by_id[rollout.task.id], 1.0).messages == rollout.trajectory.messages


def test_sizes_and_kinds_are_mixed() -> None:
    found = list(build.distinct("train", 200))
    sizes = Counter(draft.bad.count("def ") for draft in found)
    assert set(sizes) == {1, 2, 3}
    assert 0.3 < sum(draft.old.isdigit() for draft in found) / len(found) < 0.7
