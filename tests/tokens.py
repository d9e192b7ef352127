"""A small tokenizer and token-exact policies made on the spot: bytes, pairs of them, and three control tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import Episode
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Message, Reply

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAIRS = ("\n\n", "\n<", "  ", "ba", "sh", "ls", "<f", "er", "co", "in", "re", ">\n", "/p", "pa")


class PairTokenizer:
    """Greedy tokenizer over bytes and some pairs; it has several ways to write one text, as real ones have."""

    all_special_tokens = CONTROL
    eos_token = "<|endoftext|>"
    chat_template = None

    def __init__(self) -> None:
        self._control = re.compile("(" + "|".join(map(re.escape, CONTROL)) + ")")
        self._split = re.compile("|".join(map(re.escape, PAIRS)) + "|.", re.DOTALL)
        self._ids = {token: 256 + i for i, token in enumerate((*CONTROL, *PAIRS))}
        self._bytes = {i: token.encode() for token, i in self._ids.items()}

    def __len__(self) -> int:
        return 256 + len(self._ids)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        ids: list[int] = []
        for part in self._control.split(text):
            for piece in [part] if part in CONTROL else self._split.findall(part):
                ids += [self._ids[piece]] if piece in self._ids else piece.encode("utf-8", "surrogatepass")
        return ids

    def decode(
        self, ids: Sequence[int], skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        return b"".join(self._bytes.get(i, bytes([i % 256])) for i in ids).decode("utf-8", "replace")

    def loosely(self, text: str, dice: random.Random) -> list[int]:
        """A way to write a text that `encode` would not choose."""
        ids: list[int] = []
        for i in self.encode(text):
            ids += list(self._bytes[i]) if i >= 256 + len(CONTROL) and dice.random() < 0.5 else [i]
        return ids


@dataclass
class Sampler:
    """A token-exact policy that says given texts, in ids that no tokenizer would choose for them."""

    texts: Sequence[str]
    renderer: Renderer
    cut_off: frozenset[int] = frozenset()
    name: str = "sampler"
    sent: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return fingerprint("sampler", texts=list(self.texts))

    def start(self, view: TaskView, attempt: int, seed: int) -> SamplerTalk:
        return SamplerTalk(self, random.Random(f"{seed}/{attempt}"), Episode(self.renderer))


@dataclass
class SamplerTalk(Conversation):
    policy: Sampler
    dice: random.Random
    episode: Episode

    def brief(self, brief: Brief) -> bool:
        if brief.before is not None:
            self.episode.recall(brief.before)
        return False

    def reply(self, messages: Sequence[Message]) -> Reply:
        step = replies_so_far(messages)
        self.policy.sent.append(self.episode.extend(messages))
        tokenizer: PairTokenizer = self.policy.renderer.tokenizer
        ids = tokenizer.loosely(self.policy.texts[step], self.dice)
        ids += [] if step in self.policy.cut_off else self.policy.renderer.stop_ids[:1]
        return self.episode.reply(ids, [-self.dice.random() for _ in ids], version=step // 2)

    def close(self) -> None:
        pass
