"""Board: what it shows is what lies in the run directory, from any process, while it runs and when it is over."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

import swebench_lab as lab
from swebench_lab.cli.main import main
from swebench_lab.errors import RecordError
from swebench_lab.rollouts.run_directory import RunDirectory
from tests.conftest import make_rollout, make_task


def filled(path: Path) -> RunDirectory:
    run = RunDirectory(path)
    for number in range(6):
        status = ("resolved", "unresolved", "not graded")[number % 3]
        run.append(make_rollout(make_task(number), status=status))
    run.event("again", task="owner__name-1", attempt=0, tries=1, reason="its box <b>died</b>")
    return run


def test_it_counts_what_lies_there_and_then_only_what_is_new(tmp_path: Path) -> None:
    run = filled(tmp_path)
    board = lab.Board(tmp_path)
    state = board.state()
    assert state["counts"] == {"resolved": 2, "unresolved": 2, "not graded": 2} and state["state"] == "not begun"
    assert state["resolved"]["value"] == 0.5 and state["resolved"]["low"] < 0.5 < state["resolved"]["high"]
    assert state["stops"] == {"submitted": 6} and state["events"]["counts"] == {"again": 1}
    run.append(make_rollout(make_task(2), status="resolved"))  # the same attempt, made again
    run.append(make_rollout(make_task(7)))
    assert board.state()["counts"] == {"resolved": 4, "unresolved": 2, "not graded": 1}


def test_a_collection_that_says_nothing_any_more_has_died(tmp_path: Path) -> None:
    run = filled(tmp_path)
    live = {"state": "running", "at": time.time(), "began": time.time() - 60, "count": 10, "finished": 4, "stages": {}}
    run.show(live)
    state = lab.Board(tmp_path).state()
    assert state["state"] == "running" and state["left"] == 6
    run.show({**live, "at": time.time() - 60})
    assert lab.Board(tmp_path).state()["state"] == "died"


def test_half_a_line_is_not_read_before_it_is_whole(tmp_path: Path) -> None:
    run = filled(tmp_path)
    board = lab.Board(tmp_path)
    board.state()
    row = (tmp_path / "attempts.jsonl").read_bytes().splitlines()[0].replace(b"owner__name-0", b"owner__name-9")
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        file.write(row[:100])
    assert board.state()["rows"] == 6
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        file.write(row[100:] + b"\n")
    assert board.state()["rows"] == 7
    with pytest.warns(UserWarning, match=r"not in tasks\.jsonl"):
        assert len(run.rollouts()) == 6  # its task was never written down; and what is set aside makes a new file
    assert board.state()["rows"] == 6


def test_the_page_is_whole_loads_nothing_and_runs_nothing_an_agent_wrote(tmp_path: Path) -> None:
    filled(tmp_path / "run")
    file = lab.Board(tmp_path / "run").to_html(tmp_path / "board.html")
    assert file == tmp_path / "board.html"
    html = file.read_text()
    assert "<b>died</b>" not in html and "died" in html and "src=" not in html and "http" not in html
    HTMLParser().feed(html)


def test_attaching_gives_the_rollouts_and_their_board(tmp_path: Path) -> None:
    run = filled(tmp_path)
    attached = lab.attach(tmp_path)
    assert len(attached) == 6 and attached.board.state()["rows"] == 6
    run.append(make_rollout(make_task(7)))
    assert len(attached) == 6 and len(attached.refresh()) == 7
    with pytest.raises(RecordError, match="no such folder"):
        lab.Board(tmp_path / "nowhere")


def test_the_command_shows_it_in_another_process_and_writes_the_page(tmp_path: Path) -> None:
    filled(tmp_path / "run")
    shown = CliRunner().invoke(main, ["board", str(tmp_path / "run"), "--html", str(tmp_path / "b.html")])
    assert shown.exit_code == 0 and "2 resolved" in shown.output and "again" in shown.output
    assert (tmp_path / "b.html").is_file()


def test_it_follows_a_running_collection_from_another_process(tmp_path: Path) -> None:
    code = """
import sys, swebench_lab as lab
tasks = lab.load_tasks("demo").sample(2, seed=1)
slow = lab.ScriptedPolicy(["<function=bash>\\n<parameter=command>\\nsleep 2\\n</parameter>\\n</function>",
                           "<function=submit>\\n</function>"], name="slow")
with lab.SandboxFactory("namespace") as sandboxes:
    lab.RolloutCollector(sandboxes, workers=2, run_dir=sys.argv[1]).collect(lab.Agent(slow), tasks, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")])
    seen = []
    while process.poll() is None:
        if (tmp_path / "run").is_dir():
            seen.append(lab.Board(tmp_path / "run").state())
        time.sleep(0.2)
    assert process.returncode == 0
    running = [state for state in seen if state["state"] == "running"]
    assert any(state["going"] and state["stages"]["tools"]["running"] for state in running)
    last = lab.Board(tmp_path / "run").state()
    assert last["state"] == "over" and last["rows"] == 2 and last["left"] == 0


def test_it_says_why_attempts_were_not_graded_the_commonest_reason_first(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for number in range(7):
        name = f"owner__name-{number}"
        reason = f"cloning {name}: no route after {number}.5 s" if number < 5 else "a box <b>died</b>"
        rollout = make_rollout(make_task(number), status="not graded" if number else "resolved")
        run.append(replace(rollout, verdict=replace(rollout.verdict, reason=reason if number else "")))
    (commonest, other) = lab.attach(tmp_path).reasons
    assert (commonest.count, other.count) == (4, 2) and commonest.text.startswith("cloning owner__name-")
    assert "6 not graded: 4 × cloning owner__name-1: no route after 1.5 s)" in repr(lab.attach(tmp_path))
    assert "2 × a box &lt;b&gt;died&lt;/b&gt;" in lab.load_rollouts(tmp_path)._repr_html_()
    board = lab.Board(tmp_path)
    assert [(row["attempts"], row["task"]) for row in board.state()["reasons"]] == [
        (4, "owner__name-1"),
        (2, "owner__name-5"),
    ]
    assert "--retry" in board.to_text() and "no route" in board.to_text()
