"""What every policy keeps, checked on any of them: run `check_policy` on your own before you collect with it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from swebench_lab.policies.policy import Brief, Conversation, Policy
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Trajectory


def check_policy(policy: Policy, view: TaskView, opening: Sequence[Message], repeatable: bool = True) -> list[str]:
    """Return what a policy does not keep of its contract; an empty list is a pass.

    Args:
        policy: The policy to check; it is asked for a few replies.
        view: A task that it can work on.
        opening: The messages before the first reply, as an agent's flavour makes them.
        repeatable: Whether two attempts with the same task, attempt and seed must say the same.

    Returns:
        One sentence for each promise that is broken.
    """
    problems: list[str] = []
    if not isinstance(policy, Policy):
        return [f"{type(policy).__name__} lacks one of: name, fingerprint, start"]
    if not policy.name or policy.fingerprint != policy.fingerprint:
        problems.append("name must not be empty, and fingerprint must not change between two readings")
    first, second = policy.start(view, 0, 0), policy.start(view, 0, 0)
    if not isinstance(first, Conversation):
        return [
            *problems,
            f"start must return a Conversation; {type(first).__name__} lacks one of: brief, reply, close",
        ]
    if first is second:
        problems.append("start must return a new Conversation for every attempt")
    before = list(opening)
    one, other = first.reply(before), second.reply(before)
    if not isinstance(one, Reply) or not isinstance(one.text, str):
        return [*problems, "reply must return a Reply whose text is a str"]
    if before != list(opening):
        problems.append("reply must not change the messages it is given")
    if repeatable and one.text != other.text:
        problems.append("two attempts with the same task, attempt and seed must say the same")
    problems += _reenter(policy, view, before, one, first, repeatable)
    for conversation in (first, second):
        conversation.close()
        conversation.close()
    return problems + _ship(policy)


def _reenter(
    policy: Policy, view: TaskView, opening: Sequence[Message], one: Reply, first: Conversation, repeatable: bool
) -> list[str]:
    """Ask for the second reply, once from the conversation itself and once from one that enters there."""
    step = Step.of(0, one, tool="bash", observation="OBSERVATION:\n[exit code 0]")
    history: list[Message] = [*opening, *step.messages]
    try:
        entered = policy.start(view, 0, 0)
        entered.brief(Brief(before=Trajectory(view.id, opening=tuple(opening), steps=(step,))))
        here, there = (conversation.reply(history) for conversation in (first, entered))
    except RuntimeError:  # a PolicyError: one reply was all it had to say
        return []
    if repeatable and here.text != there.text:
        return ["a conversation entered in the middle must go on as one that was there from the beginning"]
    return []


def _ship(policy: Policy) -> list[str]:
    """Send the policy through pickle, as other processes receive it."""
    try:
        arrived = pickle.loads(pickle.dumps(policy))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return [f"it cannot be sent to other processes: {error}"]
    same = arrived.fingerprint == policy.fingerprint
    return [] if same else ["its fingerprint changes on the way to another process"]
