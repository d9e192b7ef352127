"""The command line: a thin skin whose errors are one paragraph, whose exit codes can be relied on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swebench_lab.cli.summary import metrics_lines
from swebench_lab.records.task import Tasks
from swebench_lab.tasks.loading import load_tasks
from tests.sandbox.repositories import BUG, FILES, make_task, write
from tests.traces.records import mini_2, openai_call, put
from tests.viewer.app.runs import write_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task file over a small repository."""
    folder = tmp_path_factory.mktemp("cli")
    source = write(folder / "calc", FILES)
    made = [make_task(source, setup_patch=BUG, hide_tests=True, id=f"calc-{n}") for n in range(2)]
    Tasks(made).save(folder / "tasks.jsonl")
    return folder


def cli(folder: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    """Run a command in the folder with a cache of its own; return stdout, or stderr when it is to fail."""
    package = str(Path(__file__).parents[2])
    env = {**os.environ, "SWEBENCH_LAB_CACHE": str(folder / "cache"), "PYTHONPATH": package, **variables}
    # The tasks are those of a folder of this machine, which whoever runs these commands has made.
    trust = ["--trust"] if "--tasks" in arguments and not {"show", "explain"} & set(arguments) else []
    command = [
        sys.executable,
        "-c",
        "from swebench_lab.cli.main import main; main(prog_name='swebench-lab')",
        *arguments,
        *trust,
    ]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr or "--debug" in arguments
    return done.stderr if code in (1, 2) else done.stdout


def test_help_is_fast_and_imports_nothing_heavy(folder: Path) -> None:
    cli(folder, "--help")
    began = time.perf_counter()
    said = cli(folder, "--help")
    seconds = time.perf_counter() - began
    assert "Exit codes: 0 success;" in said and "\\b" not in said
    assert seconds < 1.5, "should be below 0.5 s on a quiet machine"
    code = (
        "import sys\nfrom swebench_lab.cli.main import main\nmain(['--help'], standalone_mode=False)\n"
        "print([m for m in ('polars', 'swebench', 'matplotlib', 'papermill', 'libcst') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_tasks_can_be_listed_shown_and_exported(folder: Path) -> None:
    listed = cli(folder, "tasks", "list", "--tasks", "tasks.jsonl", "--filter", "calc-1")
    assert "calc-1" in listed and "calc-0" not in listed and "add subtracts" in listed
    shown = cli(folder, "tasks", "show", "calc-0", "--tasks", "tasks.jsonl")
    assert "tests/test_calc.py::test_add[1]" in shown and "+    return a + b" not in shown
    assert "+    return a + b" in cli(folder, "tasks", "show", "calc-0", "--tasks", "tasks.jsonl", "--answer")
    cli(folder, "tasks", "export", "--tasks", "tasks.jsonl", "-n", "1", "-o", "one.parquet")
    assert len(load_tasks(folder / "one.parquet", trust=True)) == 1


def test_errors_are_one_paragraph_with_exit_code_1(folder: Path) -> None:
    (folder / "broken.jsonl").write_text('{"id": "a", "repo": 3, "gold_patch": ""}\n')
    for arguments, said in {
        ("tasks", "list", "--tasks", "nowhere.jsonl"): "nowhere.jsonl",
        ("tasks", "list", "--tasks", "broken.jsonl"): "broken.jsonl",
        ("tasks", "list", "--tasks", "tasks.jsonl", "--filter", "zzz"): "no task of 'tasks.jsonl' matches",
        ("tasks", "show", "calc-9", "--tasks", "tasks.jsonl"): "no task of 'tasks.jsonl' has the id 'calc-9'",
        ("recipe", "show", "quikstart"): "did you mean 'quickstart'",
        ("recipe", "run", "quickstart", "-p", "n_task=3"): "did you mean 'n_tasks'",
        ("recipe", "run", "quickstart", "-p", "n_tasks=many"): "takes int",
    }.items():
        told = cli(folder, *arguments, code=1).strip()
        assert said in told and told.split(":")[0].endswith("Error") and "\n\n" not in told


def test_debug_shows_the_traceback(folder: Path) -> None:
    assert "Traceback" in cli(folder, "--debug", "tasks", "list", "--tasks", "nowhere.jsonl", code=1)


def test_verbose_turns_on_the_library_s_logging_and_nothing_is_logged_without_it(folder: Path) -> None:
    def logged(*options: str) -> str:
        code = "from swebench_lab.cli.main import main; main(prog_name='swebench-lab')"
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", code, *options, "recipe", "show", "quickstart"]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stderr

    assert logged() == ""
    assert logged("-v") == ""
    assert "DEBUG swebench_lab.experiments.recipes: recipe 'quickstart' is" in logged("-vv")


def test_wrong_usage_has_exit_code_2(folder: Path) -> None:
    for arguments, said in {
        ("nonsense",): "No such command",
        ("collect", "script", "--tasks", "tasks.jsonl", "--run-dir", "x"): "needs --script",
        ("collect", "chat", "--tasks", "tasks.jsonl", "--run-dir", "x"): "needs --url",
        ("collect", "null", "--tasks", "tasks.jsonl", "--run-dir", "x", "--flavour", "salt"): "no flavour 'salt'",
        ("prepare", "--tasks", "tasks.jsonl", "--backend", "moon"): "known are 'namespace'",
        ("recipe", "run", "quickstart", "-p", "n_tasks"): "KEY=VALUE",
    }.items():
        assert said in cli(folder, *arguments, code=2)


def test_the_folder_above_runs_is_understood(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs")
    both = cli(tmp_path, "evaluate", "runs", code=3)
    assert "/a:" in both and "/deep/b:" in both and "policy teacher" in both and "policy noisy" in both
    assert "12 attempts" in cli(tmp_path, "board", "runs/deep", "--once")
    assert "2 runs below runs: a, b" in cli(tmp_path, "traces", "show", "runs")
    (tmp_path / "empty").mkdir()
    assert "no run at or below empty" in cli(tmp_path, "board", "empty", "--once", code=3)
    assert "holds 2 runs; choose one" in cli(tmp_path, "board", "runs", "--once", code=2)


def test_view_writes_a_bundle(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs")
    assert "24 attempts" in cli(tmp_path, "view", "runs", "--bundle", "site")
    assert (tmp_path / "site" / "index.html").is_file()


def test_collect_takes_specs(folder: Path) -> None:
    (folder / "bad.toml").write_text("not = [toml")
    arguments = ("collect", "teacher", "--tasks", "tasks.jsonl", "--run-dir", "bad-run", "--specs", "bad.toml")
    assert "bad.toml" in cli(folder, *arguments, code=1)


def test_from_prepare_to_evaluate(folder: Path) -> None:
    assert "2 tasks: 2 built" in cli(folder, "prepare", "--tasks", "tasks.jsonl")
    assert "2 tasks: 2 cached" in cli(folder, "prepare", "--tasks", "tasks.jsonl")
    assert "2 of 2 tasks are certified" in cli(folder, "check", "--tasks", "tasks.jsonl")
    collect = ("collect", "teacher", "--tasks", "tasks.jsonl", "--run-dir", "run", "--workers", "2")
    first = cli(folder, *collect)
    assert "2 attempts at 2 tasks: 2 resolved" in first and "2 new attempts" in first
    assert "0 new attempts" in cli(folder, *collect)
    assert (folder / "run" / "attempts" / "index.html").is_file() and "look at them: swebench-lab view run" in first
    assert sorted(json.loads((folder / "run" / "preds.json").read_text())) == sorted(
        task.id for task in load_tasks(folder / "tasks.jsonl", trust=True)
    )
    assert "policy teacher" in cli(folder, "evaluate", "run")
    predictions = [
        {"instance_id": task.id, "model_name_or_path": "gold", "model_patch": task.gold_patch}
        for task in load_tasks(folder / "tasks.jsonl", trust=True)
    ]
    (folder / "preds.json").write_text(json.dumps(predictions))
    said = cli(folder, "evaluate", "preds.json", "--tasks", "tasks.jsonl", "-o", "report.json")
    assert "2 resolved, 0 unresolved, 0 not graded; resolved 100.0% of 2 tasks" in said
    assert json.loads((folder / "report.json").read_text())["resolved_instances"] == 2
    assert "removed 1 of 1 Snapshots" in cli(folder, "gc", "--all")


def test_a_script_of_replies_is_an_agent(folder: Path) -> None:
    replies = [
        "look\n\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>",
        "<function=submit>\n</function>",
    ]
    (folder / "script.json").write_text(json.dumps(replies))
    said = cli(
        folder,
        "collect",
        "script",
        "--script",
        "script.json",
        "--tasks",
        "tasks.jsonl",
        "-n",
        "1",
        "--run-dir",
        "scripted",
    )
    assert "1 attempts at 1 tasks: 0 resolved, 1 unresolved" in said


def test_a_task_that_cannot_be_built_is_told_with_exit_code_3(folder: Path) -> None:
    Tasks([make_task(folder / "no-such-folder")]).save(folder / "lost.jsonl")
    said = cli(folder, "prepare", "--tasks", "lost.jsonl", code=3)
    assert "1 failed" in said and "no-such-folder" in said


def test_a_dockerfile_is_checked_and_built(folder: Path) -> None:
    (folder / "image" / "root").mkdir(parents=True)
    (folder / "image" / "Dockerfile").write_text("ARG A\nFROM base:1\nARG A\nCOPY root /$A\nUSER 5\nWORKDIR /w\n")
    (folder / "image" / "bad").write_text("FROM base:1\nVOLUME /x\n")
    assert "1 stages, 5 instructions" in cli(folder, "snapshots", "build", "image", "--check")
    assert "bad, line 2: VOLUME is outside" in cli(folder, "snapshots", "build", "image/bad", "--check", code=1)
    assert "--base takes NAME=VALUE" in cli(folder, "snapshots", "build", "image", "--base", "x", code=2)
    given = ["--build-arg", "A=to", "--base", "base:1=image/root"]
    said = cli(folder, "snapshots", "build", "image", *given)
    assert "3 layers" in said and "workdir /w, user 5, shell sh" in said
    assert said.split()[0] in cli(folder, "snapshots", "ls")


def test_recipes_are_listed_and_shown(folder: Path) -> None:
    assert "quickstart" in cli(folder, "recipe", "list") and "smoke" in cli(folder, "recipe", "list")
    assert "n_tasks: int = 16  #" in cli(folder, "recipe", "show", "quickstart")


def test_doctor_prints_what_it_found(folder: Path) -> None:
    assert "sandboxes" in cli(folder, "doctor") and "extra notebook" not in cli(folder, "doctor")
    assert "extra notebook" in cli(folder, "doctor", "--all")
    assert json.loads(cli(folder, "doctor", "--json"))["ok"] is True


def test_traces_of_other_projects_are_shown_and_converted(folder: Path) -> None:
    file = put(folder, "mini-2-tools")
    assert "mini-swe-agent" in cli(folder, "traces", "show", file.name)
    assert "cat half.py" in cli(folder, "traces", "show", file.name, "--trace", "0")
    assert "counted from 0" in cli(folder, "traces", "show", file.name, "--trace", "1", code=2)
    assert "1 traces" in cli(folder, "traces", "convert", file.name, "-o", "rows.jsonl", "--format", "xml")
    assert "<function=bash>" in (folder / "rows.jsonl").read_text()
    (folder / "odd.json").write_text("{}")
    assert "of no known format" in cli(folder, "traces", "show", "odd.json", code=1)


def test_traces_are_executed_again_and_drift_is_told(folder: Path) -> None:
    record = mini_2()
    commands = [("pwd", "/home/ann/half\n"), ("echo one", "two\n")]
    talk = record["messages"][:2]
    for number, (command, output) in enumerate(commands):
        call = openai_call(number, "bash", {"command": command})
        talk.append({"role": "assistant", "content": "", "tool_calls": [call]})
        seen = {"raw_output": output, "returncode": 0}
        talk.append({"role": "tool", "content": output, "tool_call_id": call["id"], "extra": seen})
    (folder / "again.traj.json").write_text(json.dumps({**record, "messages": talk, "instance_id": "calc-0"}))
    arguments = ("traces", "replay", "again.traj.json", "--tasks", "tasks.jsonl", "--run-dir", "replayed")
    said = cli(folder, *arguments, code=3)
    assert "1 same, 1 drift" in said and "step 1, drift, 'echo one'" in said
    assert "1 of 1 traces belong to these tasks" in said
    assert "calc-0" in cli(folder, "traces", "show", "replayed")
    assert "0 of 1 traces" in cli(folder, "traces", "replay", "again.traj.json", code=3)


def test_a_model_behind_an_endpoint_is_an_agent(folder: Path) -> None:
    pytest.importorskip("openai", reason="ChatPolicy is in the extra 'chat'")
    from swebench_lab.formats.calls import Call, render_fenced
    from tests.policies.test_chat import serving

    config = """
agent:
  system_template: "Write one block.\\n```mswea_bash_command\\nls\\n```"
  instance_template: "{{task}}"
  step_limit: 5
environment: {timeout: 20}
model: {model_name: openai/other, model_kwargs: {temperature: 0.25}}
"""
    (folder / "mini.yaml").write_text(config)
    submit = "```mswea_bash_command\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n```"
    with serving() as endpoint:
        collect = ("collect", "chat", "--tasks", "tasks.jsonl", "-n", "1", "--url", endpoint.url, "--no-pages")
        endpoint.orders = [render_fenced(Call("bash", {"command": "ls"})), render_fenced(Call("submit"))]
        more = (
            "--model",
            "tiny",
            "--flavour",
            "mini",
            "--max-steps",
            "4",
            "--temperature",
            "0.5",
            "--prices",
            "1",
            "0",
            "2",
        )
        said = cli(folder, *collect, *more, "--key-from", "MY_KEY", "--run-dir", "chatted", MY_KEY="secret")
        assert "1 attempts at 1 tasks: 0 resolved, 1 unresolved" in said
        first = endpoint.requests[0]
        assert (first["model"], first["temperature"], first["key"]) == ("tiny", 0.5, "Bearer secret")
        endpoint.orders = [submit]
        said = cli(folder, *collect, "--config", "mini.yaml", "--run-dir", "configured")
        assert "1 attempts at 1 tasks: 0 resolved, 1 unresolved" in said
        collect = tuple(part for part in collect if part not in ("--url", endpoint.url))
        cli(folder, *collect, "--config", "mini.yaml", "--run-dir", "named", OPENAI_BASE_URL=endpoint.url)
        assert (endpoint.requests[-1]["model"], endpoint.requests[-1]["temperature"]) == ("other", 0.25)


def test_a_recipe_ends_in_a_table_for_people_and_keeps_the_rest_in_metrics_json() -> None:
    rate = {"value": 0.625, "low": 0.375, "high": 0.875, "n": 16}
    agent = {"resolved": 10, "graded": 16, "not_graded": 2, "pass_at_1": rate, "per_task": {"a": 1.0}}
    empty = {"resolved": 0, "graded": 0, "not_graded": 3, "pass_at_1": {"value": None, "n": 0}}
    trained = {**rate, "resolved": 10, "unresolved": 6, "not graded": 1}
    counts, deep = {"built": 2, "failed": 1}, {"a": {"b": 1}}
    numbers = {"tasks": 16, "seconds": 47.0012, "prepared": counts, "gain": deep}
    lines = metrics_lines({**numbers, "noisy": agent, "null": empty, "sft": trained})
    assert "tasks: 16" in lines and "seconds: 47" in lines
    assert "noisy  10 of 16   62.5%  37.5% to 87.5%           2" in lines
    assert any(line.startswith("null") and "nan" not in line and line.endswith("3") for line in lines)
    assert "sft    10 of 16   62.5%  37.5% to 87.5%           1" in lines and "prepared: 2 built, 1 failed" in lines
    assert lines[-1] == "in metrics.json: gain" and not any("{" in line for line in lines)
