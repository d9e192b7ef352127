"""Agents of others, many at once, and what the gateway adds to a call: `python -m tests.benchmarks.cli_agents codex 64`.

Not among the benchmarks that `make bench` runs: it needs npm, and gigabytes of memory for the larger agents.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import swebench_lab as lab
from swebench_lab.agents.external.desk import Budget, Desk
from swebench_lab.agents.external.gateway import gateway
from swebench_lab.formats.dialects import anthropic, chat, google, responses
from swebench_lab.formats.dialects.exchange import Json, Request, assistant_message, called, function, result
from swebench_lab.records.reply import Message
from swebench_lab.records.task import TaskView
from swebench_lab.sandbox.linux.processes import table
from tests.agents.external.agent_of_ours import bash
from tests.agents.external.test_real_agents import TASKS, Repair
from tests.benchmarks.measure import available_memory, memory, quantile

PATHS = {
    "chat": (chat, "/v1/chat/completions"),
    "responses": (responses, "/v1/responses"),
    "anthropic": (anthropic, "/v1/messages"),
    "google": (google, "/v1beta/models/m:generateContent"),
}
CALLS = 50
PROMPT = 80_000
"""Characters of the first request of a large agent: its system prompt and tools."""


def main() -> None:
    """Measure the gateway, then an agent, if one is named: its name, and how many attempts at once."""
    for dialect in PATHS:
        print(json.dumps(overhead(dialect)), flush=True)
    if len(sys.argv) > 1:
        print(json.dumps(at_once(sys.argv[1], int(sys.argv[2]))), flush=True)


# --- the gateway ----------------------------------------------------------------------------------------------------------


def overhead(dialect: str) -> Json:
    """Ask the same policy through the gateway and directly, in a conversation that grows; milliseconds of a call."""
    reply, spent = bash("ls -l", "I look."), []

    def timed(view: object, messages: object, step: int) -> str:
        spent.append(time.perf_counter())
        return reply

    view = lab.load_tasks("demo")[0].view()
    desk = Desk(lab.ScriptedPolicy(timed), view, 0, 0, Budget(10 * CALLS), keep=None, slot=lambda: nullcontext(),
                deadline=lambda: time.monotonic() + 600)  # fmt: skip
    tool = function("bash", "runs " * (PROMPT // 10), {"type": "object", "properties": {"command": {"type": "string"}}})
    messages: list[Json] = [
        {"role": "system", "content": "rules " * (PROMPT // 12)},
        {"role": "user", "content": "fix"},
    ]
    module, path = PATHS[dialect]
    with socket.socket(fileno=socket.create_server(("127.0.0.1", 0)).detach()) as listener:  # as boxes pass theirs out
        port = listener.getsockname()[1]
        with gateway().attach(listener.dup(), desk):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            through, cpu = [], []
            for _ in range(CALLS):
                body = json.dumps(module.write_request(Request(dialect, "m", tuple(messages), (tool,)))).encode()
                began, used = time.perf_counter(), time.process_time()
                connection.request("POST", path, body, {"authorization": f"Bearer {desk.key}"})
                answered = connection.getresponse()
                text = answered.read()
                through.append(1000 * (time.perf_counter() - began))
                cpu.append(1000 * (time.process_time() - used))
                assert answered.status == 200, text
                (call,) = desk.exchanges[-1].answer.calls
                messages += [
                    assistant_message("I look.", calls=[called(call.id, call.name, call.arguments)]),
                    result(call.id, "x" * 2000),
                ]
            connection.close()
    assert len(desk.exchanges) == CALLS
    conversation, given = desk.policy.start(view, 0, 0), desk.exchanges[-1].messages
    direct = []
    for _ in range(CALLS):
        began = time.perf_counter()
        conversation.reply(given)
        direct.append(1000 * (time.perf_counter() - began))
    return {
        "dialect": dialect, "calls": CALLS, "first": round(through[0], 2), "median": round(quantile(through, 0.5), 2),
        "last": round(through[-1], 2), "p95": round(quantile(through, 0.95), 2), "direct": round(quantile(direct, 0.5), 3),
        "processor": round(quantile(cpu, 0.5), 2),
    }  # fmt: skip


# --- agents ---------------------------------------------------------------------------------------------------------------


QUIET = 40.0
"""Seconds in which no further attempt asks, after which as many are there as memory admits."""


class Together(Repair):
    """After a few that go ahead, answers nobody before so many attempts have asked, or no more come, so that all are there at once.

    Those that go ahead show how much memory one takes, without which fewer are admitted.
    """

    def __init__(self, kit: str, ahead: int, count: int) -> None:
        super().__init__(kit)
        self._ahead, self._count = threading.Semaphore(ahead), count
        self._change = threading.Condition()
        self._here, self._latest, self._over = 0, 0.0, False

    def __call__(self, view: TaskView, messages: Sequence[Message], step: int) -> str:
        if step == 0 and not self._ahead.acquire(blocking=False):
            self._wait()
        return str(super().__call__(view, messages, step))  # type: ignore[no-untyped-call]

    def _wait(self) -> None:
        with self._change:
            self._here, self._latest = self._here + 1, time.monotonic()
            while not self._over:
                self._over = self._here >= self._count or time.monotonic() > self._latest + QUIET
                self._change.wait(1.0)
            self._change.notify_all()


def at_once(name: str, attempts: int) -> Json:
    """Run so many attempts of an agent at once, on the bundled tasks; count processes and memory meanwhile."""
    tasks, each = TASKS, -(-attempts // len(TASKS)) + 1
    policy = lab.ScriptedPolicy(Together(name, len(tasks), (each - 1) * len(tasks)), name=name)
    agent = lab.CLIAgent(name, policy, max_steps=12, wall_time=1500.0)
    agent.install()
    start, over = available_memory(), threading.Event()
    most = Counter(live=0, processes=0, memory=0, own=0)

    def watch(collector: lab.RolloutCollector) -> None:
        while not over.wait(0.5):
            parents = {process.pid: process.parent for process in table()}
            below, count = {os.getpid()}, 0
            while len(below) > count:
                count = len(below)
                below |= {pid for pid, parent in parents.items() if parent in below}
            values = {"processes": count - 1, "memory": start - available_memory(), "own": memory()}
            running = collector._running
            values["live"] = running.executor.status()["stages"]["play"]["running"] if running else 0
            for key, value in values.items():
                most[key] = max(most[key], value)

    with lab.SandboxFactory("namespace") as sandboxes, tempfile.TemporaryDirectory() as folder:
        sandboxes.prepare(tasks)
        collector = lab.RolloutCollector(sandboxes, workers=each * len(tasks), run_dir=folder)
        watcher = threading.Thread(target=watch, args=(collector,))
        watcher.start()
        began = time.monotonic()
        rollouts = collector.collect(agent, tasks, attempts=each, progress=False)
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
        spans = [span for rollout in rollouts for span in rollout.trajectory.spans]
        layers = [1000 * (span.end - span.start) for span in spans if span.kind == "sandbox" and span.step >= 0]
        found = {
            "agent": name, "attempts": len(rollouts), "verdicts": Counter(r.verdict.status for r in rollouts),
            "errors": Counter(r.trajectory.error[:80] for r in rollouts if r.trajectory.error),
            "calls": sum(len(r.trajectory.steps) for r in rollouts), "seconds": round(seconds, 1),
            "layer ms": round(quantile(layers, 0.5), 1), **{key: round(value / (1 << 20)) if key in ("memory", "own") else value
                                                            for key, value in most.items()},
        }  # fmt: skip
        collector.close()
    return found


if __name__ == "__main__":
    main()
