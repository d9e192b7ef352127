"""HumanPolicy: you are the agent; type a bash command, `submit`, or a whole reply, in a notebook or a terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swebench_lab.errors import FormatError, PolicyError
from swebench_lab.formats.calls import FORMATS, Call
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.records.reply import Message, Reply, text_of
from swebench_lab.records.task import TaskView

_ASKING = threading.Lock()
"""Held while a person is asked: a notebook's kernel hangs when two threads ask."""


def _show(text: str) -> None:
    print(text)  # noqa: T201 (a person is being talked to)


def _ask(prompt: str) -> str:
    return input(prompt)  # looked up now: a notebook's kernel puts its own in place while a cell runs


@dataclass(frozen=True)
class HumanPolicy:
    """Asks a person for every reply, under a cell of a notebook or in a terminal.

    A line is taken as a bash command, `submit` hands in, and what holds a whole call is taken as it is. Lines that
    end in a backslash go on in the next one; an empty line asks again. The agent's own call format is written,
    whichever flavour it has. Of several attempts at once, one asks at a time: collect with `workers=1`.

    Args:
        who: The person's name, for tables.
        ask: Reads one line; given a prompt.
        show: Shows a text.
    """

    who: str = "human"
    ask: Callable[[str], str] = _ask
    show: Callable[[str], None] = _show

    @property
    def name(self) -> str:
        """The person."""
        return self.who

    @property
    def fingerprint(self) -> str:
        """The person."""
        return fingerprint("human", who=self.who)

    def start(self, view: TaskView, attempt: int, seed: int) -> Sitting:
        """Begin one attempt."""
        return Sitting(self)


@dataclass
class Sitting(Conversation):
    """One attempt with a person."""

    policy: HumanPolicy
    told: Brief = field(default=Brief(), init=False)

    def brief(self, brief: Brief) -> bool:
        """Take the agent's call format over; the tools that no prompt lists are shown with the task."""
        self.told = brief
        return bool(brief.tools)

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Show what is new, and ask for the next reply.

        Raises:
            PolicyError: The person has left: the input is closed, or nobody can be asked.
        """
        step = replies_so_far(messages)
        new = [text_of(message) for message in (messages[-1:] if step else messages)]
        tools = [json.dumps(tool, ensure_ascii=False) for tool in self.told.tools if not step]
        try:
            with _ASKING:
                self.policy.show("\n\n".join([*tools, *new]))
                answer = self._read_reply(f"[{step}] $ ")
        except EOFError:
            raise PolicyError(f"{self.policy.who} left at step {step}: the input is closed") from None
        except NotImplementedError as error:  # how a notebook's kernel says that it runs without a page
            raise PolicyError(
                f"asking {self.policy.who} at step {step}: {error}; run it where a person can type"
            ) from None
        return Reply(answer, model=self.policy.who)

    def _read_reply(self, prompt: str) -> str:
        """Ask until something is typed that the call format can hold."""
        while True:
            line = self.policy.ask(prompt)
            while line.endswith("\\"):
                line = line[:-1] + "\n" + self.policy.ask("> ")
            if line.strip():
                try:
                    return self._render(line)
                except FormatError as error:
                    self.policy.show(f"Nothing was run: {error}")

    def _render(self, line: str) -> str:
        """Return a reply with the call that was meant; what is a call already stays as it is."""
        form = FORMATS[self.told.call_format]
        try:
            form.parse(line)
            return line
        except FormatError:
            call = Call("submit") if line.strip() == "submit" else Call("bash", {"command": line})
            return form.render(call)

    def close(self) -> None:
        """Hold nothing, release nothing."""
