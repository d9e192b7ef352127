"""Renderer: messages to token ids and sampled ids to text, so that only what was not sampled is ever tokenised.

A conversation with a model is one growing row of ids: an opening (system prompt, task, and the words that ask for the
first reply), then in turns what the policy sampled and what the environment answered. The frame around messages comes
from the tokenizer's chat template or from an explicit `Frame`; the ids of one turn are found by rendering it behind a
stand-in reply, so templates that rewrite earlier replies (dropping their thoughts, say) do no harm. Templates that know
no system role, or want user and assistant in turns, are given the system prompt and the users' messages as one.

A tokenizer is anything with `encode(text, add_special_tokens=False)`, `decode(ids, ...)` and `all_special_tokens`, as
those of transformers are; this file imports none.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swebench_lab.errors import PolicyError
from swebench_lab.records.arrays import Ids
from swebench_lab.records.arrays import ids as as_ids
from swebench_lab.records.reply import Message, text_of

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None, bool], str]
"""Messages, tools, and whether a reply is asked for → text."""


@dataclass(frozen=True)
class Frame:
    """The words around messages, for models without a chat template.

    Args:
        before: Role to the words before a message of that role.
        stop: The special token that ends a message.
        between: What follows `stop`.
    """

    before: Mapping[str, str]
    stop: str
    between: str = "\n"

    def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, ask: bool) -> str:
        """Return the messages in their frames; with `ask`, the beginning of a reply after them."""
        if unknown := [m["role"] for m in messages if m["role"] not in self.before]:
            raise PolicyError(f"rendering messages: this frame has no words for the role {unknown[0]!r}")
        turns = [f"{self.before[m['role']]}{m['content']}{self.stop}{self.between}" for m in messages]
        return "".join(turns) + (self.before["assistant"] if ask else "")


CHATML = Frame({role: f"<|im_start|>{role}\n" for role in ("system", "user", "assistant", "tool")}, "<|im_end|>")
"""The frame of ChatML, which Qwen and many others use."""


@dataclass(frozen=True)
class _Template:
    """A chat template as a way to render; a value, so that it can be sent to other processes."""

    tokenizer: Any
    written: str
    options: Mapping[str, Any]

    def __call__(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, ask: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] if tools else None,
                chat_template=self.written,
                add_generation_prompt=ask,
                tokenize=False,
                **self.options,
            )
        except Exception as error:  # templates raise what they like
            roles = ", ".join(message["role"] for message in messages)
            raise PolicyError(
                f"rendering messages: the chat template fails on the roles {roles}: {error}; give "
                "Renderer.from_template another template, or the agent a flavour whose observations are a user's"
            ) from error
        return text


class Renderer:
    """Token ids of what surrounds a policy's replies.

    Special tokens inside a message's text (an observation that shows a prompt file, an issue that names `<|im_end|>`)
    are tokenised as the ordinary characters they are: no text can end its own message.

    Args:
        tokenizer: See the top of the file.
        render: Writes messages as the model reads them.
        stop: Further special tokens that end a reply, besides the tokenizer's end of sequence and what the frame
            puts after one.
        shows_tools: Call format in which `render` shows the tools it is given and asks for calls of them: `json` or
            `coder`; empty: it does not show them, or asks for calls in a way that is not read here.

    Raises:
        PolicyError: The frame cannot hold a reply.
    """

    def __init__(self, tokenizer: Any, render: Render, *, stop: Sequence[str] = (), shows_tools: str = "") -> None:
        self.tokenizer = tokenizer
        self.shows_tools = shows_tools
        self._render = render
        self._special = tuple(sorted(_special(tokenizer), key=len, reverse=True))
        after = self._after_reply([], ask=False)
        end = next((token for token in self._special if after.startswith(token)), "")
        self._end = end or str(getattr(tokenizer, "eos_token", "") or "")
        if not self._end:
            raise PolicyError("making a Renderer: neither the frame nor the tokenizer has a token that ends a reply")
        self._end_in_frame = end
        texts = dict.fromkeys([self._end, str(getattr(tokenizer, "eos_token", None) or self._end), *stop])
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(self._one(text) for text in texts))
        """Ids that end a reply; the first is the one the frame itself puts after one."""
        self._folds_system = not self._holds(("system", "user")) and self._holds(("user",))
        self._joins_users = not self._holds(("user", "user"))
        prompt = self._render([{"role": "user", "content": "Task"}], None, True)
        self.opens_thought = prompt.rstrip().endswith(_THINK)
        """Whether a prompt ends in `<think>`, so that a reply begins inside its thought."""
        self.thinks = self.opens_thought or _THINK in self._special or _THINK in getattr(render, "written", "")
        """Whether the model writes thoughts as `<think>...</think>`, so that reasoning kept apart is trained on."""

    def _holds(self, roles: Sequence[str]) -> bool:
        """Say whether the frame can hold messages of these roles, and shows the text of the first and the last."""
        texts = [f"words{number}" for number in range(len(roles))]
        try:
            prompt = self._render([{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)], None, True)
        except PolicyError:
            return False
        return texts[0] in prompt and texts[-1] in prompt

    def _shaped(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages as the frame takes them: without a system's role or users in a row, where it has none."""
        shaped: list[Message] = []
        for message in messages:
            role = "user" if message["role"] == "system" and self._folds_system else message["role"]
            folded = self._folds_system and shaped and role == "user" and len(shaped) == 1
            if shaped and role == shaped[-1]["role"] == "user" and (self._joins_users or folded):
                content = f"{text_of(shaped[-1])}\n\n{text_of(message)}"
                shaped[-1] = {"role": "user", "content": content}
            else:
                shaped.append({**message, "role": role})
        return shaped

    @classmethod
    def from_template(cls, tokenizer: Any, template: str = "", *, stop: Sequence[str] = (), **options: Any) -> Renderer:
        """Return a renderer over a chat template.

        Args:
            tokenizer: A tokenizer of transformers.
            template: A Jinja template; empty: the tokenizer's own.
            stop: Further special tokens that end a reply.
            **options: Passed to the template, such as `enable_thinking=False`.

        Raises:
            PolicyError: There is no template, or it fails.
        """
        source = template or getattr(tokenizer, "chat_template", None)
        if not source:
            raise PolicyError(
                "making a Renderer: the tokenizer has no chat template; give one, or use Renderer.from_frame(tokenizer)"
            )

        return cls(tokenizer, _Template(tokenizer, str(source), options), stop=stop, shows_tools=_calls_of(str(source)))

    @classmethod
    def from_frame(cls, tokenizer: Any, frame: Frame = CHATML, *, stop: Sequence[str] = ()) -> Renderer:
        """Return a renderer over an explicit frame, which needs no template engine."""
        return cls(tokenizer, frame.render, stop=stop)

    @classmethod
    def of(cls, tokenizer: Any) -> Renderer:
        """Return a renderer over the tokenizer's own chat template, or over ChatML where it has none."""
        return cls.from_template(tokenizer) if getattr(tokenizer, "chat_template", None) else cls.from_frame(tokenizer)

    @classmethod
    def load(cls, source: str, revision: str = "") -> Renderer:
        """Return a renderer over the tokenizer in a folder or of a hub id; needs transformers.

        Raises:
            PolicyError: There is no tokenizer, or transformers is not installed.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise PolicyError("a tokenizer needs transformers: pip install 'swebench-lab[train]'") from error
        try:
            return cls.of(AutoTokenizer.from_pretrained(source, revision=revision or None))
        except (OSError, ValueError) as error:
            raise PolicyError(f"loading the tokenizer of {source}: {error}") from error

    def opening(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> tuple[int, ...]:
        """Return the ids of a whole prompt, up to where the reply begins.

        Args:
            messages: From the system prompt to the last message before the reply.
            tools: Schemas for templates that show tools.

        Raises:
            PolicyError: The frame fails, or leaves a message out.
        """
        cut = self._cut(messages)
        return self._encode(_complete(self._render(self._shaped(cut), tools, True), cut))

    def turn(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids between the stop token of one reply and the beginning of the next.

        Args:
            messages: What the environment says there.

        Raises:
            PolicyError: The frame fails, or leaves a message out.
        """
        cut = self._cut(messages)
        after = self._after_reply(self._shaped(cut), ask=True)
        return self._encode(_complete(after.removeprefix(self._end_in_frame), cut))

    def spoken(self, text: str, reasoning: str = "") -> tuple[int, ...]:
        """Return the ids of a reply that was not sampled (a teacher's, a person's), its stop token included.

        Where the prompt opens the thought, the reply does not open it again, and one without a thought closes it.

        Args:
            text: What was said.
            reasoning: What was thought before, where that was kept apart: it is put before the text as a `<think>` block
                if the model `thinks`, and left out otherwise.
        """
        if reasoning and self.thinks and "</think>" not in text:
            text = f"{_THINK}\n{reasoning.strip()}\n</think>\n\n{text}"
        if self.opens_thought:
            start = text.lstrip()
            if start.startswith(_THINK):
                text = start.removeprefix(_THINK).removeprefix("\n")
            elif "</think>" not in text:
                text = f"\n</think>\n\n{text}"
        return (*self._encode_reply(text), self.stop_ids[0])

    def _encode_reply(self, text: str) -> tuple[int, ...]:
        """Return the ids of a reply; only the tags around its leading thought may be tokens of their own."""
        head = _THOUGHT.match(text) if self.thinks else None
        parts = _TAGS.split(head[0]) if head else []
        rest = text[head.end() :] if head else text
        ids: list[int] = []
        for part in [*parts, rest]:
            ids += self._encode(part if part in (_THINK, "</think>") else self._inside(part))
        return tuple(ids)

    def stopping_at(self, ids: Iterable[int]) -> Renderer:
        """Return the same renderer for a model that also ends its replies with these ids."""
        other = copy.copy(self)
        other.stop_ids = tuple(dict.fromkeys([*self.stop_ids, *ids]))
        return other

    def text(self, ids: Sequence[int] | Ids) -> str:
        """Return what sampled ids say, without the stop token that ends them."""
        plain = as_ids(ids).tolist()  # tokenizers read nothing else
        content = plain[:-1] if plain and plain[-1] in self.stop_ids else plain
        text: str = self.tokenizer.decode(content, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _after_reply(self, messages: Sequence[Message], ask: bool) -> str:
        """Return the text that the frame puts after a reply, when these messages follow it."""
        reply = "@reply@"
        while any(reply in text_of(message) for message in messages):
            reply += "@reply@"
        before: list[Message] = [{"role": "user", "content": "Task"}, {"role": "assistant", "content": reply}]
        _, match, after = self._render([*before, *messages], None, ask).rpartition(reply)
        if not match:
            raise PolicyError("rendering messages: the chat template leaves replies out")
        return after

    def _inside(self, text: str) -> str:
        """Put a cut into every special token of a text, behind its first character."""
        text = _HALF.sub("\ufffd", text)
        for token in self._special:
            text = text.replace(token, token[0] + _CUT + token[1:])
        return text

    def _cut(self, messages: Sequence[Message]) -> list[Message]:
        cut: list[Message] = [{**message, "content": self._inside(text_of(message))} for message in messages]
        for message in cut:
            message.pop("demonstration", None)  # a template is shown nothing but the message
        return cut

    def _encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text; what stands on the two sides of a cut is tokenised apart."""
        ids: list[int] = []
        for part in text.split(_CUT):
            ids += self.tokenizer.encode(part, add_special_tokens=False) if part else ()
        return tuple(ids)

    def _one(self, token: str) -> int:
        ids = self.tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise PolicyError(
                f"making a Renderer: the stop token {token!r} is {len(ids)} tokens to this tokenizer, not 1"
            )
        return int(ids[0])


_THINK = "<think>"
_TAGS = re.compile(r"(\A\s*<think>|</think>)")
_THOUGHT = re.compile(r"(?:\s*<think>)?(?:(?!<think>).)*?</think>", re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which stand for bytes that are no text and which no tokenizer reads."""

_CUT = "\ue1c7\ue05d\ue1c7"
"""Marks, in rendered text, where tokenising is interrupted: private-use characters that mean nothing to anybody."""


def _special(tokenizer: Any) -> set[str]:
    """Return the texts of a tokenizer's control tokens."""
    extra = getattr(tokenizer, "added_tokens_decoder", None) or {}
    specials = {str(token) for token in extra.values() if getattr(token, "special", False)}
    return {token for token in {*getattr(tokenizer, "all_special_tokens", ()), *specials} if len(token) > 1}


def _calls_of(template: str) -> str:
    """Return the call format that a chat template asks for where it shows tools."""
    if "tools" not in template or "<tool_call>" not in template:
        return ""
    return "coder" if "<function=" in template else "json"


def _complete(text: str, messages: Sequence[Message]) -> str:
    """Return a rendered text, if no message was lost on the way: some templates skip roles they do not know."""
    for message in messages:
        words = re.findall(
            r"[A-Za-z0-9_]+", text_of(message)
        )  # whole contents may be trimmed, or escaped in a piece of JSON
        if words and max(words, key=len) not in text:
            raise PolicyError(
                f"rendering messages: the chat template leaves out what a message of the role {message['role']!r} says; "
                "give Renderer.from_template another template, or the agent another flavour"
            )
    return text
