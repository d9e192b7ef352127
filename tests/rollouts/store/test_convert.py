"""Converting: what earlier versions wrote is read again; a run of the layout of before goes on from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import swebench_lab as lab
from swebench_lab.cli.main import main
from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollout
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.store import convert as converting
from swebench_lab.rollouts.store.convert import convert
from tests.conftest import make_rollout, make_task
from tests.rollouts.store.test_store import stored, with_tokens

OLDEST = Path(__file__).parent / "run_of_97d816b"


def as_before(path: Path, rollouts: list[Rollout], rewarded_by: str = "") -> None:
    """Write a run directory as the layout of before was."""
    path.mkdir()
    with (path / "rollouts.jsonl").open("w") as rows, (path / "tasks.jsonl").open("w") as tasks:
        for rollout in rollouts:
            tasks.write(json.dumps(rollout.task.to_dict()) + "\n")
            rows.write(json.dumps({**rollout.to_row(), "rewarded_by": rewarded_by}) + "\n")


def test_the_layout_of_before_is_converted_without_loss(tmp_path: Path) -> None:
    rollouts = [with_tokens(make_rollout(make_task(n)), 20, seed=n) for n in range(5)]
    as_before(tmp_path / "run", rollouts, "by")
    said = CliRunner().invoke(main, ["runs", "convert", str(tmp_path / "run")])
    assert said.exit_code == 0 and "5 attempts converted" in said.output, said.output
    assert list(lab.attach(tmp_path / "run")) == [stored(r, tmp_path / "run") for r in rollouts]
    assert {entry.rewarded_by for entry in RunDirectory(tmp_path / "run").entries().values()} == {"by"}
    assert (tmp_path / "run" / "converted-from" / "rollouts.jsonl").is_file()
    assert "nothing to convert" in CliRunner().invoke(main, ["runs", "convert", str(tmp_path / "run")]).output
    assert (
        "5 attempts are whole, 0 damaged" in CliRunner().invoke(main, ["runs", "check", str(tmp_path / "run")]).output
    )


def test_a_converted_run_goes_on_where_it_stood(tmp_path: Path) -> None:
    tasks = lab.load_tasks("demo").sample(2, seed=1)
    with lab.SandboxFactory("namespace") as sandboxes:
        first = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path / "new")
        agent = lab.Agent(lab.NullPolicy())
        made = list(first.collect(agent, tasks, progress=False))
        as_before(tmp_path / "old", made, first.recorder.rewarded_by)
        convert(tmp_path / "old")
        again = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path / "old")
        assert [r.key for r in again.collect(agent, tasks, progress=False)] == [r.key for r in made]
        assert again.executed == 0
        assert len(again.collect(agent, tasks, attempts=2, progress=False)) == 4 and again.executed == 2


def test_a_run_of_commit_97d816b_is_read(tmp_path: Path) -> None:
    shutil.copytree(OLDEST, tmp_path / "run")
    conversion = convert(tmp_path / "run")
    assert conversion is not None and (conversion.attempts, conversion.aside) == (3, 0)
    resolved, unresolved, left = lab.attach(tmp_path / "run")
    assert (resolved.verdict.status, resolved.reward) == ("resolved", 1.0)
    step = resolved.trajectory.steps[0]
    assert (step.tool, step.command, step.exit_code, step.reply.cost) == ("bash", "ls", 0, 0.001)
    assert step.observation == step.reply.text and "\ud800" in step.reply.text
    assert step.reply.token_ids is not None and step.reply.token_ids.tolist() == [1, 2, 3]
    assert unresolved.verdict.cause == "not_applied"
    silent = unresolved.trajectory.steps[1]
    assert silent.malformed and silent.observation == "say it as a call" and silent.reply.version == 4
    assert silent.reply.prompt_tokens is None and silent.reply.cost is None
    assert left.verdict.status == "not graded" and left.reward is None


def test_rows_that_cannot_be_read_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    as_before(tmp_path / "run", [make_rollout(make_task(n)) for n in range(2)])
    with (tmp_path / "run" / "rollouts.jsonl").open("a") as file:
        file.write('{"task_id": "owner__name-0"}\n{"half": ')
    said = CliRunner().invoke(main, ["runs", "convert", str(tmp_path / "run")])
    assert said.exit_code == 3 and "2 attempts converted" in said.output and "2 unreadable" in said.output
    aside = [json.loads(line) for line in (tmp_path / "run" / "set-aside.jsonl").read_text().splitlines()]
    assert [row["line"] for row in aside] == [3, 4] and len(lab.attach(tmp_path / "run")) == 2


@pytest.mark.parametrize("place", ["_tasks", "_size", "_put_in_place"])
def test_a_conversion_that_was_killed_is_begun_again(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = [make_rollout(make_task(n)) for n in range(3)]
    as_before(tmp_path / "run", rollouts)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(converting, place, die)
        convert(tmp_path / "run")
    with pytest.raises(RecordError, match="runs convert"):
        lab.attach(tmp_path / "run")
    convert(tmp_path / "run")
    assert [r.key for r in lab.attach(tmp_path / "run")] == [r.key for r in rollouts]
    assert not list((tmp_path / "run").glob(".converting*"))


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no attempts"):
        convert(tmp_path)
