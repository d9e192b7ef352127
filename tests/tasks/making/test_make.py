"""make_tasks: tasks that hold when graded, the same for a seed, with a reason for every candidate that is none."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest

from swebench_lab.errors import TaskError
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.patches.diff import reverse_patch, touched_files
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.tasks.making.candidates import Candidate
from swebench_lab.tasks.making.made import MadeTasks, repo_name
from swebench_lab.tasks.making.make import make_tasks
from swebench_lab.tasks.making.validation import Baseline, Suite, Trial
from swebench_lab.tasks.schemas import from_swesmith, to_swesmith
from tests.tasks.making.shelf import CODE, write

COUNT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("making")


@pytest.fixture(scope="module")
def repository(folder: Path) -> Path:
    return write(folder / "shelf")


@pytest.fixture(scope="module")
def sandboxes(folder: Path) -> SandboxFactory:
    return SandboxFactory(cache=folder / "cache")


@pytest.fixture(scope="module")
def made(repository: Path, sandboxes: SandboxFactory) -> MadeTasks:
    return make_tasks(repository, COUNT, seed=3, sandboxes=sandboxes, combined=0.25, workers=2, progress=False)


def test_as_many_as_asked_for_with_tests_that_decide(made: MadeTasks, repository: Path) -> None:
    assert len(made) == COUNT
    for task in made:
        assert task.fail_to_pass and task.pass_to_pass and task.hide_tests
        assert not set(task.fail_to_pass) & set(task.pass_to_pass)
        assert touched_files(task.setup_patch) == ("shelf.py",)
        assert task.gold_patch == reverse_patch(task.setup_patch)
        assert task.source == str(repository) and task.repo == "local/shelf"
        assert task.id.startswith(f"local__shelf.{task.base_commit[:8]}.{task.extra['strategy']}__")
        assert task.family and task.issue.strip()


def test_gold_resolves_and_the_untouched_tree_does_not(made: MadeTasks, sandboxes: SandboxFactory) -> None:
    frame = Evaluator(sandboxes).check(made)
    assert frame["gold"].to_list() == [["resolved"]] * COUNT
    assert frame["untouched"].to_list() == [["unresolved"]] * COUNT


def test_combinations_join_edits_that_each_break_something(made: MadeTasks) -> None:
    joined = [task for task in made if task.extra["strategy"].startswith("combine_")]
    assert len(joined) == round(0.25 * COUNT)
    alone = {row["edit"] for row in made.report.to_dicts() if row["outcome"] == "task"}
    for task in joined:
        parts = task.extra["edit"].split("; ")
        assert 2 <= len(parts) <= 3 and set(parts) <= alone
        assert not any(other.extra["edit"] in parts for other in made)


def test_every_candidate_is_accounted_for(made: MadeTasks) -> None:
    report = made.report
    tasks = report.filter(report["outcome"] == "task")
    assert set(made.ids) <= set(tasks["id"])
    assert report.filter(report["outcome"] != "task")["id"].to_list() == [""] * (len(report) - len(tasks))
    assert set(report["path"]) == {"shelf.py"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tasks_whatever_the_threads(
    made: MadeTasks, repository: Path, sandboxes: SandboxFactory
) -> None:
    again = make_tasks(repository, COUNT, seed=3, sandboxes=sandboxes, combined=0.25, workers=1, progress=False)
    assert again.ids == made.ids
    assert [t.issue for t in again] == [t.issue for t in made]
    other = make_tasks(repository, 1, seed=4, sandboxes=sandboxes, combined=0.0, repeats=1, progress=False)
    tried = other.report["edit"].to_list()
    assert tried != made.report["edit"].to_list()[: len(tried)]


def test_a_git_repository_is_read_at_its_head(tmp_path: Path, sandboxes: SandboxFactory) -> None:
    repository = write(tmp_path / "kept")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], cwd=repository, check=True)
    (repository / "shelf.py").write_text("not committed")
    (task,) = make_tasks(
        repository, 1, sandboxes=sandboxes, combined=0.0, strategies=["func_pm_op_change_const"], progress=False
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    assert task.base_commit == head.stdout.strip()
    assert task.extra["strategy"] == "func_pm_op_change_const"


def test_tasks_are_rows_of_swe_smith(made: MadeTasks) -> None:
    row = to_swesmith(made[0])
    commit = made[0].base_commit[:8]
    assert row["patch"] == made[0].setup_patch
    assert row["repo"] == f"swesmith/local__shelf.{commit}"
    assert row["image_name"] == f"swebench/swesmith.x86_64.local_1776_shelf.{commit}"
    assert from_swesmith(row).gold_patch == made[0].gold_patch


def test_a_repository_that_gives_too_few_warns_and_reports(repository: Path, sandboxes: SandboxFactory) -> None:
    with pytest.warns(UserWarning, match=r"of the 5 wanted; \d+ candidates were tried"):
        few = make_tasks(
            repository, 5, sandboxes=sandboxes, strategies=["func_pm_class_shuffle_funcs"], combined=0.0, progress=False
        )
    assert len(few) < 5


def test_a_suite_that_cannot_pass_is_an_error_that_shows_its_end(tmp_path: Path, sandboxes: SandboxFactory) -> None:
    repository = write(tmp_path / "sad")
    (repository / "shelf.py").write_text(CODE.replace("class Shelf", "class Gone"))
    with pytest.raises(TaskError, match=r"no test passes \(exit code 2\): .*error"):
        make_tasks(repository, 1, sandboxes=sandboxes, progress=False)


def test_one_module_that_no_parser_gets_through_does_not_end_the_run(tmp_path: Path, sandboxes: SandboxFactory) -> None:
    repository = write(tmp_path / "shelf")
    (repository / "deep.py").write_text(f"def total():\n    return {' + '.join(['1'] * 900)}\n")
    (repository / "test_deep.py").write_text("from deep import total\n\ndef test_total():\n    assert total() == 900\n")
    made = make_tasks(repository, 1, sandboxes=sandboxes, combined=0.0, workers=2, progress=False)
    assert len(made) == 1 and touched_files(made[0].setup_patch) == ("shelf.py",)


def test_what_goes_wrong_with_one_candidate_is_its_row_and_what_goes_wrong_with_all_is_an_error(
    repository: Path, sandboxes: SandboxFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, bad = Suite.trial, set[str]()

    def falling(self: Suite, candidate: Candidate, baseline: Baseline) -> Trial:
        if not bad or candidate.key in bad:
            bad.add(candidate.key)
            raise SystemError("AST constructor recursion depth mismatch (before=63, after=65)")
        return trial(self, candidate, baseline)

    monkeypatch.setattr(Suite, "trial", falling)
    made = make_tasks(repository, 1, sandboxes=sandboxes, combined=0.0, workers=1, progress=False)
    rows = made.report.to_dicts()
    assert len(made) == 1 and [row["outcome"][:42] for row in rows if "went wrong" in row["outcome"]] == [
        "trying it went wrong: SystemError: AST con"
    ]
    monkeypatch.setattr(Suite, "trial", lambda *_: trial(None, None, None))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        make_tasks(repository, 2, sandboxes=sandboxes, combined=0.0, workers=2, progress=False)


def test_wrong_arguments_are_named(repository: Path, sandboxes: SandboxFactory) -> None:
    with pytest.raises(TaskError, match="count=0"):
        make_tasks(repository, 0, sandboxes=sandboxes)
    with pytest.raises(TaskError, match="no strategy is called 'nothing'"):
        make_tasks(repository, 1, sandboxes=sandboxes, strategies=["nothing"], progress=False)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("demo:textgrid", "demo/textgrid"),
        ("pypi:More_Itertools==10.5.0", "pypi/more-itertools"),
        ("/home/me/tools.git", "local/tools"),
        ("https://example.org/owner/name.git", "owner/name"),
    ],
)
def test_repositories_are_named_after_their_source(source: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repo_name(source) == name
