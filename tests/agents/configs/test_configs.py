"""Agents made from configuration files: what the file says is what is done, and what it cannot say is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import swebench_lab as lab
from swebench_lab.agents.configs import explain, tables
from swebench_lab.agents.configs.replies import READERS, by_pattern
from swebench_lab.agents.configs.templates import TemplateFlavour
from swebench_lab.errors import ConfigError
from swebench_lab.formats.calls import Call
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from tests.boxes import make_snapshot
from tests.conftest import make_task

TASK = make_task()

PUT = """#!/usr/bin/env python3
import argparse, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("path"); parser.add_argument("old"); parser.add_argument("--new", default="")
parser.add_argument("--lines", nargs=2, type=int)
given = parser.parse_args()
text = open(given.path).read()
assert text.count(given.old) == 1, text
open(given.path, "w").write(text.replace(given.old, given.new))
print(os.environ["GREETING"], given.lines)
"""
NOTE = """#!/usr/bin/env bash
cat > "$1"
"""
SUBMIT = """#!/usr/bin/env bash
cd "$ROOT" && git add -A && git diff --cached > /root/model.patch && echo '<<SWE_AGENT_SUBMISSION>>'
"""
STATE = """#!/usr/bin/env python3
import json, os
json.dump({"working_dir": os.getcwd(), "depth": os.getcwd().count("/")}, open("/root/state.json", "w"))
"""
TOOLS: dict[str, Any] = {
    "tools": {
        "put": {
            "signature": "put <path> <old> [<new>] [<lines>]",
            "docstring": "replaces text, by {WIDTH} columns",
            "arguments": [
                {"name": "path", "type": "string", "description": "a file", "required": True},
                {"name": "old", "type": "string", "description": "what is there", "required": True},
                {"name": "new", "type": "string", "description": "what comes", "required": False,
                 "argument_format": "--new {{value}}"},
                {"name": "lines", "type": "array", "items": {"type": "integer"}, "description": "where",
                 "required": False, "argument_format": "--lines {{value|join(' ')}}"},
            ],
        },
        "note": {
            "signature": "note <path>\n<text>\nend_of_note",
            "docstring": "writes a file",
            "end_name": "end_of_note",
            "arguments": [
                {"name": "path", "type": "string", "description": "a file", "required": True},
                {"name": "text", "type": "string", "description": "its text", "required": True},
            ],
        },
        "submit": {"signature": "submit", "docstring": "hands in", "arguments": []},
    },
    "state_command": "_state",
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "agent": {
        "templates": {
            "system_template": "You repair code.\n{{command_docs}}",
            "instance_template": "In {{working_dir}}: {{problem_statement}}",
            "next_step_template": "OBSERVATION ({{working_dir}}):\n{{observation}}",
            "next_step_no_output_template": "No output.",
            "next_step_truncated_observation_template": "{{observation[:max_observation_length]}}|{{elided_chars}}",
            "max_observation_length": 300,
        },
        "tools": {
            "bundles": [{"path": "tools/kit"}],
            "env_variables": {"WIDTH": 80, "PAGER": "cat"},
            "registry_variables": {"STAGE": 3},
            "parse_function": {"type": "xml_function_calling"},
            "execution_timeout": 5,
        },
        "history_processors": [{"type": "last_n_observations", "n": 2}],
        "model": {"name": "custom_openai/m", "api_base": "http://127.0.0.1:9/v1", "temperature": 0.8,
                  "per_instance_call_limit": 12, "per_instance_cost_limit": 0},
    },
    "num_workers": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return make_snapshot(tmp_path_factory.mktemp("repo"), {"calc.py": "def add(a, b):\n    return a - b\n"})


@pytest.fixture
def box(snapshot: Snapshot) -> Iterator[Sandbox]:
    with open_namespace(snapshot) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a bundle of tools."""
    kit = tmp_path / "tools" / "kit"
    (kit / "bin").mkdir(parents=True)
    for name, text in {"put": PUT, "note": NOTE, "submit": SUBMIT, "_state": STATE}.items():
        (kit / "bin" / name).write_text(text)
    (kit / "install.sh").write_text("export GREETING=hello-from-$WIDTH\n")
    (kit / "config.yaml").write_text(yaml.safe_dump(TOOLS))
    return tmp_path


Change = Callable[[dict[str, Any]], object]


def written(home: Path, change: Change | None = None, config: dict[str, Any] = CONFIG) -> Path:
    """Write a configuration, changed, and return its file."""
    values = json.loads(json.dumps(config))
    if change:
        change(values)
    file = home / "config" / "mine.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(values))
    return file


def attempt(file: Path, box: Sandbox, *calls: Call | str, **changes: Any) -> Trajectory:
    agent = lab.Agent.from_config(file, lab.NullPolicy(), keep_layers=False, **changes)
    replies = [call if isinstance(call, str) else agent.flavour.render(call) for call in calls]  # type: ignore[union-attr]
    return agent.using(lab.ScriptedPolicy(replies)).run(TASK, box)


REPAIR = Call("put", {"path": "/testbed/calc.py", "old": "a - b", "new": "a + b"}, "I repair it.")


def test_a_bundle_is_installed_and_its_programs_solve_the_task(home: Path, box: Sandbox) -> None:
    made = attempt(written(home), box, Call("bash", {"command": "cd /tmp"}), REPAIR, Call("submit"))
    assert (made.stop, made.error, made.flavour) == ("submitted", "", "mine")
    assert "+    return a + b" in made.patch
    assert made.opening[0]["content"].startswith("You repair code.\nbash:\n  docstring: runs")
    assert "put:\n  docstring: replaces text, by 80 columns\n  signature: put <path>" in made.opening[0]["content"]
    assert made.opening[1]["content"] == f"In /testbed: {TASK.issue}"
    moved, repaired, _ = made.steps
    assert moved.observation == "No output."
    assert repaired.observation == "OBSERVATION (/tmp):\nhello-from-80 None"
    assert repaired.command == "put /testbed/calc.py 'a - b' --new 'a + b'"


def test_tools_cannot_be_overwritten_without_saying_so_and_start_as_the_file_says(home: Path, box: Sandbox) -> None:
    look = "stat -c %a /root/tools/kit/bin/put /root/tools/kit/install.sh; cat /root/.swe-agent-env; echo $PROBLEM_STATEMENT"
    made = attempt(written(home), box, Call("bash", {"command": look}), Call("submit"))
    shown = made.steps[0].observation
    assert "555\n444\n" in shown
    assert '{"STAGE": 3}' in shown
    assert TASK.issue.split()[0] in shown


def test_a_list_becomes_words_and_a_wrong_one_is_corrected(home: Path, box: Sandbox) -> None:
    lines = Call("put", {**REPAIR.arguments, "lines": "[1, 2]"})
    made = attempt(written(home), box, Call("put", {**REPAIR.arguments, "lines": "one"}), lines, Call("submit"))
    wrong, right, _ = made.steps
    assert wrong.malformed
    assert "lines" in wrong.observation
    assert right.observation.endswith("hello-from-80 [1, 2]")


def test_a_command_of_several_lines_is_a_here_document(home: Path, box: Sandbox) -> None:
    file = written(home, lambda c: c["agent"]["tools"]["parse_function"].update(type="thought_action"))
    note = "I write.\n```\nnote /testbed/new.txt\n  first $HOME\nlast\nend_of_note\n```"
    made = attempt(file, box, note, "Then:\n```\nsubmit\n```")
    assert made.stop == "submitted"
    assert "+  first $HOME\n+last" in made.patch


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("vim calc.py", "not supported"),
        ("python", "not supported"),
        ("if then", "syntax error"),
        ("r2 x", "not supported"),
    ],
)
def test_commands_that_are_blocked_or_no_bash_are_not_run(home: Path, box: Sandbox, command: str, told: str) -> None:
    made = attempt(written(home), box, Call("bash", {"command": f"{command}\n"}), Call("submit"))
    assert made.steps[0].malformed
    assert told in made.steps[0].observation


def test_limits_are_those_of_the_file(home: Path, box: Sandbox) -> None:
    def short(config: dict[str, Any]) -> None:
        config["agent"]["tools"] |= {"execution_timeout": 0.3, "max_consecutive_execution_timeouts": 2}

    slow = Call("bash", {"command": "sleep 9"})
    made = attempt(written(home, short), box, slow, slow, slow)
    assert (made.stop, len(made.steps), made.patch) == ("timeout", 2, "")
    assert "cancelled" in made.steps[0].observation
    boxed = lab.Agent.from_config(written(home, lambda c: c["agent"].update(type="sandbox", step_limit=7)))
    assert (boxed.max_steps, boxed.wall_time) == (7, 300.0)
    assert "{{left}}" in boxed.reminder
    agent = lab.Agent.from_config(written(home))
    assert (agent.max_steps, agent.command_timeout, agent.observation_limit, agent.max_cost) == (12, 5.0, 300, None)
    assert (agent.wall_time, agent.reminder) == (1800.0, "")
    policy = agent.policy
    assert isinstance(policy, lab.ChatPolicy)
    assert (policy.model, policy.urls, policy.temperature) == ("m", ("http://127.0.0.1:9/v1",), 0.8)


def test_long_and_old_observations_are_shown_as_the_file_says(home: Path, box: Sandbox) -> None:
    many = Call("bash", {"command": "seq 1000"})
    made = attempt(written(home), box, many, many, many, Call("submit"))
    printed = "\n".join(map(str, range(1, 1001)))
    assert made.steps[0].observation == f"{printed[:300]}|{len(printed) - 300}"
    agent = lab.Agent.from_config(written(home), lab.NullPolicy())
    shown = agent.view(made.messages[:-2])
    lines = len(made.steps[0].observation.splitlines())
    assert [m["content"] for m in shown[3::2]] == [
        f"Old environment output: ({lines} lines omitted)", made.steps[1].observation, made.steps[2].observation,
    ]  # fmt: skip


def test_the_fingerprint_follows_every_part_of_the_file_and_of_its_bundles(home: Path) -> None:
    changes: list[Change] = [
        lambda c: None,
        lambda c: c["agent"]["templates"].update(next_step_no_output_template="Nothing."),
        lambda c: c["agent"]["tools"]["env_variables"].update(WIDTH=81),
        lambda c: c["agent"]["tools"]["registry_variables"].update(STAGE=4),
        lambda c: c["agent"]["tools"].update(reset_commands=["true"]),
        lambda c: c["agent"]["tools"].update(filter={"blocklist": ["nano"]}),
        lambda c: c["agent"]["history_processors"][0].update(n=3),
        lambda c: c["agent"]["tools"].update(install_timeout=9),
        lambda c: c["agent"]["model"].update(temperature=0.7),
    ]
    found = [lab.Agent.from_config(written(home, change)).fingerprint for change in changes]
    assert len(set(found)) == len(changes)
    (home / "tools" / "kit" / "bin" / "put").write_text(PUT + "# changed\n")
    agent = lab.Agent.from_config(written(home))
    assert agent.fingerprint not in found
    assert pickle.loads(pickle.dumps(agent)).fingerprint == agent.fingerprint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda c: c["agent"]["tools"].update(excution_timeout=3),
            r"mine.yaml.*excution_timeout.*agent.tools.execution",
        ),
        (lambda c: c["agent"].update(colour="red"), "unknown option 'agent.colour'"),
        (lambda c: c.update(worker=3), "nearest known one is 'num_workers'"),
        (lambda c: c["agent"]["history_processors"].append({"type": "shuffle"}), "no history processor"),
        (lambda c: c["agent"]["tools"]["parse_function"].update(type="identity"), "HumanPolicy"),
        (lambda c: c["agent"].update(type="retry"), "attempts"),
        (lambda c: c["agent"].update(action_sampler={"type": "ask"}), "not taken over"),
        (lambda c: c["agent"]["tools"]["bundles"].append({"path": "tools/gone"}), "no 'tools/gone'"),
        (lambda c: c["agent"]["tools"].update(execution_timeout="long"), "expected a number, not 'long'"),
        (lambda c: c["agent"]["templates"].update(system_template="{{ x"), "template"),
        (lambda c: c["agent"]["model"].pop("api_base"), "no endpoint"),
    ],
)
def test_what_cannot_be_taken_over_names_the_file_and_the_option(home: Path, change: Change, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        lab.Agent.from_config(written(home, change))


def test_a_tool_without_a_program_is_a_fault_and_no_failed_patch(home: Path, box: Sandbox) -> None:
    (home / "tools" / "kit" / "bin" / "note").unlink()
    made = attempt(written(home), box, Call("submit"))
    assert made.stop == "error"
    assert "no program for the tool 'note'" in made.error


def test_an_attempt_is_entered_again_with_its_tools_and_what_they_have_kept(home: Path, snapshot: Snapshot) -> None:
    agent = lab.Agent.from_config(written(home), lab.NullPolicy())
    keep = Call("bash", {"command": "echo '{\"STAGE\": 7}' > /root/.swe-agent-env; cd /tmp"})
    calls = [keep, REPAIR, Call("bash", {"command": "cat /root/.swe-agent-env"}), Call("submit")]
    agent = agent.using(lab.ScriptedPolicy([agent.flavour.render(call) for call in calls]))  # type: ignore[union-attr]
    layers: list[Layer] = []
    with open_namespace(snapshot) as box:
        first = agent.run(TASK, box, layer_sink=layers.append)
        other = box.fork(at=layers[0])
        same = agent.run(TASK, other, resume=first[:1])  # in a box that was restored
        again = agent.run(TASK, box, resume=first[:2])  # in a new shell of the same box
        other.close()
    for made in (same, again):
        assert (made.stop, made.error) == ("submitted", "")
        assert made.steps[2].observation == 'OBSERVATION (/tmp):\n{"STAGE": 7}'
        assert made.patch == first.patch


def test_every_option_is_explained(home: Path) -> None:
    frame = explain(written(home))
    fates = dict(frame.select("option", "fate").iter_rows())
    assert fates["agent.tools.bundles[0].path"] == "mapped"
    assert fates["num_workers"] == "elsewhere"
    page = Path(__file__).parents[3] / "docs" / "configs.md"
    assert tables.markdown() in page.read_text("utf-8"), (
        "write docs/configs.md anew: python -m swebench_lab.agents.configs"
    )


def test_calls_of_the_endpoint_need_a_policy_that_shows_the_tools(home: Path, box: Sandbox) -> None:
    file = written(home, lambda c: c["agent"]["tools"]["parse_function"].update(type="function_calling"))
    assert attempt(file, box, REPAIR, Call("submit")).stop == "submitted"
    agent = lab.Agent.from_config(file)
    assert isinstance(agent.policy, lab.ChatPolicy)
    assert agent.policy.tool_calls
    silent = agent.using(lab.ChatPolicy("http://127.0.0.1:9/v1", retries=0)).run(TASK, box)
    assert silent.stop == "error"
    assert "show the tools" in silent.error


def test_an_endpoint_with_calls_of_its_own_kind_is_told_of_the_bundles_tools(home: Path, box: Sandbox) -> None:
    pytest.importorskip("openai", reason="ChatPolicy is in the extra 'chat'")
    from tests.policies.test_chat import serving, with_calls

    file = written(home, lambda c: c["agent"]["tools"]["parse_function"].update(type="function_calling"))
    with serving() as endpoint:
        endpoint.orders = [with_calls(("put", json.dumps(dict(REPAIR.arguments)))), with_calls(("submit", "{}"))]
        policy = lab.ChatPolicy(endpoint.url, "m", tool_calls=True, retries=0)
        made = lab.Agent.from_config(file, policy, keep_layers=False).run(TASK, box)
    assert (made.stop, made.error) == ("submitted", "")
    assert "+    return a + b" in made.patch
    first, second = endpoint.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["bash", "note", "put", "submit"]
    assert second["messages"][-1]["role"] == "tool"
    assert second["messages"][-1]["content"] == "OBSERVATION (/testbed):\nhello-from-80 None"


# --- replies --------------------------------------------------------------------------------------------------------

HARD = "  if x:\n\ty = '''a'''  \n\n# </done> $HOME `date`"


@pytest.mark.parametrize("name", READERS)
def test_every_reader_reads_what_it_writes_to_the_letter(name: str) -> None:
    call = Call("bash", {"command": HARD}, "I think.")
    assert READERS[name].read(READERS[name].write(call)) == call


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", ["", "I do not know.", "```", "<function=bash>", '{"thought": 1}', "<command>ls"])
def test_what_holds_no_call_is_a_format_error(name: str, text: str) -> None:
    with pytest.raises(lab.FormatError):
        READERS[name].read(text)


def test_of_several_calls_the_one_counts_that_counts_there() -> None:
    two = "<function=bash>\n<parameter=command>one</parameter>\n</function> and\n<function=bash>\n<parameter=command>two</parameter>\n</function>"
    assert READERS["xml_function_calling"].read(two).arguments == {"command": "one"}
    assert READERS["thought_action"].read("```\none\n```\nor\n```\ntwo\n```\ndone").arguments == {"command": "two"}
    assert (
        READERS["all_bash_code_blocks"].read("```bash\none\n```\n```bash\ntwo\n```").arguments["command"] == "one\ntwo"
    )
    with pytest.raises(lab.FormatError, match="2 bash blocks"):
        READERS["single_bash_code_block"].read("```bash\none\n```\n```bash\ntwo\n```")
    assert by_pattern("<do>(.*?)</do>").read("so <do>ls</do> now") == Call("bash", {"command": "ls"}, "so\nnow")


# --- several files ---------------------------------------------------------------------------------------------------


def test_later_files_and_values_override_option_by_option(home: Path) -> None:
    mine = written(home)
    other = home / "overlay" / "local.yaml"
    other.parent.mkdir()
    changes = {"model": {"name": "custom_openai/n", "per_instance_call_limit": 5}, "history_processors": []}
    other.write_text(yaml.safe_dump({"agent": {**changes, "tools": {"env_variables": {"WIDTH": 99}}}}))
    agent = lab.Agent.from_config([mine, other, "agent.model.temperature=0.25", "agent.tools.env_variables.PAGER=less"])
    assert isinstance(agent.policy, lab.ChatPolicy) and isinstance(agent.flavour, TemplateFlavour)
    assert (agent.policy.model, agent.policy.temperature, agent.max_steps, agent.history) == ("n", 0.25, 5, ())
    known = json.loads(agent.flavour.variables)
    assert (known["WIDTH"], known["PAGER"], agent.flavour.name) == ("99", "less", "mine+local")
    assert [tool.name for tool in agent.resolved_tools] == ["bash", "note", "put", "submit"], (
        "bundles lie where the first is"
    )
    assert lab.Agent.from_config([mine]).fingerprint == lab.Agent.from_config(mine).fingerprint != agent.fingerprint
    frame = explain([mine, other]).to_dicts()
    assert {"custom_openai/n"} == {row["value"] for row in frame if row["option"] == "agent.model.name"}


def test_a_mistake_in_one_of_several_files_names_them(home: Path) -> None:
    mine = written(home)
    other = home / "local.yaml"
    other.write_text("agent:\n  colour: red\n")
    with pytest.raises(ConfigError, match=r"mine.yaml \+ .*local.yaml: unknown option 'agent.colour'"):
        lab.Agent.from_config([mine, other])
    with pytest.raises(ConfigError, match="no file is named"):
        lab.Agent.from_config(["agent.step_limit=3"])
    with pytest.raises(ConfigError, match="No such file"):
        lab.Agent.from_config([mine, home / "gone.yaml"])


# --- mini-swe-agent -------------------------------------------------------------------------------------------------

MINI: dict[str, Any] = {
    "agent": {
        "system_template": "One block.\n```mswea_bash_command\nls\n```",
        "instance_template": "{{task}} on {{system}} in {{cwd}}",
        "step_limit": 9,
        "cost_limit": 0,
    },
    "environment": {"cwd": "/testbed", "timeout": 5, "env": {"COLOUR": "red"}, "interpreter": ["bash", "-lc"]},
    "model": {
        "model_name": "openai/m",
        "model_kwargs": {"drop_params": True, "api_base": "http://127.0.0.1:9/v1", "temperature": 0.5, "top_k": 3},
        "observation_template": "<rc>{{output.returncode}}</rc>{{output.exception_info}}\n{{output.output}}",
        "format_error_template": "{{error}} ({{actions|length}})",
    },
}
FIXED = "sed -i 's/a - b/a + b/' calc.py"


def block(command: str) -> str:
    return f"I do it.\n\n```mswea_bash_command\n{command}\n```"


def test_a_mini_file_runs_each_command_in_its_own_shell_and_hands_in_what_is_printed(home: Path, box: Sandbox) -> None:
    hand_in = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && cat patch.txt"
    replies = [block("cd /tmp; echo $COLOUR; false"), block("pwd"), "no block", block(FIXED),
               block("git diff > patch.txt"), block(hand_in)]  # fmt: skip
    made = attempt(written(home, config=MINI), box, *replies)
    assert (made.stop, made.error) == ("submitted", "")
    assert made.steps[0].observation == "<rc>1</rc>\nred\n"
    assert made.steps[1].observation == "<rc>0</rc>\n/testbed\n"
    assert made.steps[2].observation == "Expected one action, found 0. (0)"
    assert "+    return a + b" in made.patch
    assert "patch.txt" not in made.patch
    assert made.opening[1]["content"] == f"{TASK.issue} on Linux in /testbed"


def test_a_mini_file_that_prints_no_patch_hands_in_what_was_changed(home: Path, box: Sandbox) -> None:
    made = attempt(written(home, config=MINI), box, block(FIXED), block("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"))
    assert "+    return a + b" in made.patch


def test_a_mini_reply_may_make_several_calls_which_run_in_order(home: Path, box: Sandbox) -> None:
    def with_calls(config: dict[str, Any]) -> None:
        config["agent"]["system_template"] = "Call bash."

    def called(*commands: str) -> str:
        calls = [{"name": "bash", "arguments": {"command": command}} for command in commands]
        return "\n".join(["I do it.", *(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)])

    submit = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    other = called("ls").replace('"bash"', '"browse"').removeprefix("I do it.\n")
    replies = [
        called("cd /tmp; echo one", "pwd; false"),
        called("ls") + "\n" + other,
        called(FIXED, submit, "touch late"),
    ]
    made = attempt(written(home, with_calls, MINI), box, *replies)
    assert (made.stop, made.error) == ("submitted", "")
    first, refused, last = made.steps
    assert first.observation == "<rc>0</rc>\none\n\n<rc>1</rc>\n/testbed\n"
    assert (first.role, first.exit_code, first.thought) == ("tool", 1, "I do it.")
    assert refused.malformed
    assert "browse" in refused.observation
    assert "+    return a + b" in made.patch
    assert "late" not in made.patch + last.command


def test_a_mini_file_names_its_model_and_limits(home: Path) -> None:
    agent = lab.Agent.from_config(written(home, config=MINI))
    assert (agent.max_steps, agent.command_timeout, agent.max_cost) == (9, 5.0, None)
    assert isinstance(agent.policy, lab.ChatPolicy)
    assert (agent.policy.temperature, dict(agent.policy.body), agent.policy.tool_calls) == (0.5, {"top_k": 3}, False)


def test_a_mini_file_that_names_what_is_not_known_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="tsk"):
        lab.Agent.from_config(written(home, lambda c: c["agent"].update(instance_template="{{tsk}}"), MINI))


# --- SWE-agent 0.x --------------------------------------------------------------------------------------------------


def test_a_flat_file_of_the_first_versions_is_refused_by_name(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"SWE-agent 0\.x, which is not supported"):
        lab.Agent.from_config(written(home, config={"system_template": "You have:", "instance_template": "{issue}"}))
