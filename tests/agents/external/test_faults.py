"""What goes wrong between an agent of others and its model: the right stop reason each time, and nothing graded for it."""

from __future__ import annotations

import time

import pytest

import swebench_lab as lab
from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.records.trajectory import Stop
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.agents.external.agent_of_ours import FILES, FIX, REPLIES, bash, kit
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.policies.test_chat import chat, serving

TASK = make_task()
BUSY = 429, b'{"error": {"message": "too many requests"}}', ("Retry-After", "0")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return make_snapshot(tmp_path_factory.mktemp("start"), FILES)


def attempt(snapshot, orders, ending="print(work(main))", settings=None, **fields):
    """Return an attempt whose model is an endpoint that does what it is told, and the endpoint's requests."""
    with serving() as endpoint, open_namespace(snapshot) as box:
        endpoint.orders = list(orders)
        agent = CLIAgent(kit(ending), chat(endpoint, **(settings or {})), **{"wall_time": 30.0, **fields})
        return agent.run(TASK, box), endpoint.requests


@pytest.mark.parametrize(
    ("order", "why"),
    [("die", "3 times"), ("drop", "3 times"), (BUSY, "too many requests"), ("hang", "3 times")],
    ids=["dead", "cut in the middle", "429", "stalled"],
)
def test_an_endpoint_that_fails_for_good_ends_the_attempt_as_an_error(snapshot, order, why):
    made, requests = attempt(snapshot, [REPLIES[1], order], settings={"timeout": 1.5 if order == "hang" else 60.0})
    assert (made.stop, made.patch, len(made.steps)) == (Stop.ERROR, "", 1) and why in made.error, made.error
    assert len(requests) == 4, "one reply, and three tries for the second"


@pytest.mark.parametrize("order", ["die", "drop", BUSY], ids=["dead", "cut in the middle", "429"])
def test_an_endpoint_that_recovers_costs_the_agent_nothing(snapshot, order):
    made, requests = attempt(snapshot, [REPLIES[0], order, *REPLIES[1:]])
    assert made.stop == Stop.SUBMITTED and "a + b" in made.patch, made.error
    assert len(made.steps) == 3 and len(requests) == 4


def test_an_agent_that_gives_up_on_a_slow_policy_and_asks_again_gets_the_first_reply(snapshot):
    ending = """
from urllib.request import urlopen
def impatient(request, timeout):
    while True:
        try: return urlopen(request, timeout=0.4)
        except TimeoutError: pass
urllib.request.urlopen = impatient
print(work(main))
"""

    def slow(view, messages, step):
        time.sleep(1.0 if step == 1 else 0.0)
        return REPLIES[step]

    with open_namespace(snapshot) as box:
        made = CLIAgent(kit(ending), lab.ScriptedPolicy(slow), wall_time=30.0).run(TASK, box)
    assert made.stop == Stop.SUBMITTED and [step.thought for step in made.steps] == ["I look.", "I fix.", "Done."]


@pytest.mark.slow
def test_a_policy_that_is_slow_when_the_time_is_over_is_a_timeout_and_an_endpoint_that_never_answered_an_error(
    snapshot,
):
    slow = lab.ScriptedPolicy(lambda view, messages, step: time.sleep(8.0 * step) or REPLIES[1])
    with open_namespace(snapshot) as box:
        made = CLIAgent(kit(), slow, wall_time=4.0).run(TASK, box)
    assert made.stop == Stop.TIMEOUT and "a + b" in made.patch, made.error
    made, _ = attempt(snapshot, [REPLIES[1], "hang"], wall_time=4.0)
    assert made.stop == Stop.ERROR and "no answer within" in made.error and not made.patch, made.error


def test_an_agent_that_ignores_its_limit_and_signals_is_ended(snapshot):
    ending = """
import signal
for number in (1, 2, 3, 13, 15): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
while True:
    try: ask(main, n_seen=time.time())
    except Exception: time.sleep(0.01)
"""
    made, requests = attempt(snapshot, [bash(FIX)], ending, max_steps=5)
    assert (made.stop, len(made.steps), len(requests)) == (Stop.MAX_STEPS, 5, 5), made.error


def test_how_much_an_agent_asks_for_is_recorded_and_the_policy_samples_as_it_is_configured(snapshot):
    made, requests = attempt(snapshot, REPLIES, "ask(main, max_tokens=65536)", settings={"max_tokens": 100})
    assert made.stop == Stop.SUBMITTED and made.steps[0].extra["request"]["asked"]["max_tokens"] == 65536
    assert requests[0].get("max_tokens", requests[0].get("max_completion_tokens")) == 100


def test_what_an_agent_asks_oddly_is_refused_or_read_and_the_record_can_be_written(snapshot, tmp_path):
    ending = r"""
def odd(text):
    headers = {"authorization": "Bearer " + os.environ["KEY"]}
    request = urllib.request.Request(os.environ["URL"] + "/v1/chat/completions", text.encode(), headers)
    try: return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as error: return error.code
hello = '"messages": [{"role": "user", "content": "cut \\ud83d"}]'
print(odd('{"x": ' + "[" * 900 + "]" * 900 + ", " + hello + "}"), odd('{"messages": []}'), odd("{" + hello + "}"))
work(main)
"""
    agent = CLIAgent(kit(ending), lab.ScriptedPolicy(REPLIES), wall_time=30.0)
    with open_namespace(snapshot) as box:
        attempt = agent.attempt(TASK, box)
        steps = list(attempt)
    assert attempt.output == "400 400 200\n" and attempt.stop == Stop.SUBMITTED and len(steps) == 4
    assert steps[0].extra["request"]["messages"][0]["content"] == "cut \ufffd"
    attempt.trajectory().save(tmp_path / "attempt.jsonl")


@pytest.mark.slow
def test_only_what_the_agent_did_is_graded():
    (task,) = lab.load_tasks("demo")[:1]
    fix = bash(f"git apply - <<'EOF'\n{task.gold_patch}\nEOF")
    endings = {
        "crashes": ("work(main); sys.exit(1)", "not graded", Stop.ERROR),
        "hangs": ("work(main); time.sleep(600)", "resolved", Stop.TIMEOUT),
        "gives up": ("ask(main)", "unresolved", Stop.SUBMITTED),
    }
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=3)
        for name, (ending, status, stop) in endings.items():
            agent = CLIAgent(kit(ending, name=name), lab.ScriptedPolicy([fix, "Done."]), wall_time=6.0)
            (rollout,) = collector.collect(agent, lab.Tasks([task]), progress=False)
            assert (rollout.verdict.status, rollout.trajectory.stop) == (status, stop), (name, rollout)
        collector.close()
