"""A small command-line agent, as others would write one: it runs in the box, and asks for a model over HTTP."""

from __future__ import annotations

from pathlib import Path

from swebench_lab.agents.external.kits import Kit
from swebench_lab.agents.external.translation import call_text

PROGRAM = """
import json, os, subprocess, sys, threading, time, urllib.request, urllib.error
tools = [{"type": "function", "function": {"name": "bash", "description": "runs", "parameters": {"type": "object"}}}]
def ask(messages, tools=tools, key=os.environ["KEY"], **more):
    body = json.dumps({"model": "m", "messages": messages, **({"tools": tools} if tools else {}), **more}).encode()
    request = urllib.request.Request(os.environ["URL"] + "/v1/chat/completions", body, {"authorization": "Bearer " + key})
    return json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["message"]
def work(messages):
    while True:
        said = ask(messages)
        messages.append(said)
        if not said.get("tool_calls"):
            return said["content"]
        for call in said["tool_calls"]:
            command = json.loads(call["function"]["arguments"])["command"]
            ran = subprocess.run(command, shell=True, capture_output=True, text=True)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": ran.stdout + ran.stderr})
main = [{"role": "system", "content": "You fix bugs."}, {"role": "user", "content": sys.argv[1]}]
"""


def kit(ending: str = "print(work(main))", name: str = "ours", **fields: object) -> Kit:
    """Return the kit of the small agent.

    Args:
        ending: What it does in the end.
        name: What it is called.
        **fields: Of the kit.
    """
    return Kit(
        name,
        "",
        (),
        "1",
        "chat",
        ("python3", "/root/agent.py", "{{prompt}}"),
        env={"URL": "{{url}}", "KEY": "{{key}}"},
        files={"/root/agent.py": PROGRAM + ending + "\n"},
        **fields,  # type: ignore[arg-type]
    )


def bash(command: str, thought: str = "") -> str:
    """Return a reply that runs a command."""
    return call_text("bash", {"command": command}, thought)


FILES = {"calc.py": "def add(a, b):\n    return a - b\n"}
FIX = "sed -i 's/a - b/a + b/' calc.py"
REPLIES = [bash("ls", "I look."), bash(FIX, "I fix."), "Done."]
HERE = Path(__file__).parent
