"""Message and Reply: what is said in a conversation, and what a policy said once, with what that took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict, TypeVar

from swebench_lab.errors import RecordError
from swebench_lab.records import arrays

Number = TypeVar("Number", int, float)


class Message(TypedDict):
    """One message of a conversation, in the form every chat endpoint reads.

    `content` is a text, or a list of parts such as `{"type": "text", "text": "..."}`. `reasoning` is what a model thought
    before it spoke, and `signature` what its provider signed that with; both go back to the provider unchanged.
    Of a history that was compacted, `summary` marks a reply that sums up what was said before it, and `replies` says how many
    replies the text of one stands for. `demonstration` marks a message of somebody else's attempt that is shown before the
    task: an `assistant` message of it is no reply of the policy (see `is_reply`), and the marker never leaves the package.
    """

    role: str
    content: str | list[dict[str, Any]]
    reasoning: NotRequired[str]
    signature: NotRequired[str]
    summary: NotRequired[bool]
    replies: NotRequired[int]
    demonstration: NotRequired[bool]


def is_reply(message: Message) -> bool:
    """Say whether a message is a reply of the policy, and not one that a demonstration shows."""
    return message["role"] == "assistant" and not message.get("demonstration")


def text_of(message: Message) -> str:
    """Return what a message says: its text, or the texts of its parts one after the other."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content)


def total(amounts: Iterable[Number | None]) -> Number | None:
    """Return the sum of amounts; None where one of them is unknown."""
    result: Number = 0
    for amount in amounts:
        if amount is None:
            return None
        result += amount
    return result


@dataclass(frozen=True, slots=True)
class VersionRun:
    """Tokens in a row that one version of the weights sampled.

    Args:
        count: How many tokens.
        version: The version, as the weights' trainer counts them; -1: unknown.
    """

    count: int
    version: int


@dataclass(frozen=True, slots=True, eq=False)
class Reply(arrays.ByValue):
    """What a policy said once, with the very tokens it sampled where they are known.

    `token_ids`, `logprobs` and `context_ids` may be given as any sequence of numbers; they are kept as arrays.

    Args:
        text: All that was said, to the letter.
        token_ids: Ids of the sampled tokens, int32, or None when the policy has none.
        logprobs: Natural-log probability of each of `token_ids` under the sampler, float32, same length, or None.
        context_ids: What the prompt they were sampled after added to the ids so far (the previous prompt and reply),
            int32; with `restart`, the whole prompt. None when unknown.
        prompt_tokens: Length of the prompt, in tokens; None when unknown, like the numbers that follow.
        completion_tokens: Length of the reply, in tokens.
        cached_tokens: Prompt tokens that were served from a cache.
        cost: Price in US dollars.
        seconds: Wall time of the call.
        model: Name and version of what answered.
        finish_reason: `stop`, `length`, or the endpoint's own word.
        restart: Whether `context_ids` begins anew, as it does at the first reply and after the history was edited.
        versions: Which versions of the weights sampled `token_ids`, as runs in their order; empty when unknown.
        reasoning: What the model thought before it spoke, where its provider returns that apart from the text.
        signature: What the provider signed the reasoning with.
        sampling_asked: Sampling parameters that the policy was configured with.
        sampling_sent: Those that the request held. Plain JSON values.
    """

    text: str
    token_ids: arrays.Ids | None = None
    logprobs: arrays.Logprobs | None = None
    context_ids: arrays.Ids | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost: float | None = None
    seconds: float = 0.0
    model: str = ""
    finish_reason: str = ""
    restart: bool = False
    versions: tuple[VersionRun, ...] = ()
    reasoning: str = ""
    signature: str = ""
    sampling_asked: Mapping[str, Any] = field(default_factory=dict, hash=False)
    sampling_sent: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, convert in (("token_ids", arrays.ids), ("logprobs", arrays.logprobs), ("context_ids", arrays.ids)):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, convert(value))
        count = 0 if self.token_ids is None else len(self.token_ids)
        if self.logprobs is not None and len(self.logprobs) != count:
            raise RecordError(f"a Reply has {count} token ids but {len(self.logprobs)} logprobs")
        if self.versions:
            object.__setattr__(
                self, "versions", tuple(r if isinstance(r, VersionRun) else VersionRun(*r) for r in self.versions)
            )
            if (covered := sum(run.count for run in self.versions)) != count:
                raise RecordError(f"a Reply has {count} token ids but its versions are of {covered}")

    @property
    def version(self) -> int:
        """The oldest version of the weights that sampled some of it; -1 when unknown."""
        return min((run.version for run in self.versions), default=-1)
