"""The graph of an attempt's model calls: which call goes on from which, and which line of the work each belongs to.

Rules. With token ids, the parent of a call is the call whose prompt and reply together are the longest exact beginning of
its prompt (of several, the earliest); where either has no ids, the call whose messages and reply are. A call without a
parent begins a line. The main line is the first that begins with the agent's prompt and has tools, whatever its sub-agents
made of theirs; where there is none, the longest. Lines with its tools and its system prompt are the main work (there are
several where an agent compacts its history); any other line is a sub-agent's, or auxiliary where it is a single call, as
titles and summaries are. A call that another one with the same parent replaced, and that nothing went on from, was a
retry: auxiliary.
Only the main work is trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from swebench_lab.records import arrays
from swebench_lab.records.reply import Reply
from swebench_lab.records.step import Thread


@dataclass(frozen=True)
class Node:
    """One model call.

    Args:
        frame: What tells one kind of work from another: the system prompt and the tools, as a digest.
        before: What the messages were, each as a digest.
        after: The same with the reply behind them.
        prompt: Ids of the whole prompt; None when unknown.
        reply: What was said.
        begins_work: Whether it has tools, and the conversation begins with what the agent was told to do; of calls that
            begin a line.
    """

    frame: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    prompt: arrays.Ids | None
    reply: Reply
    begins_work: bool = False

    @cached_property
    def whole(self) -> arrays.Ids | None:
        """Ids of the prompt and the reply."""
        if self.prompt is None or self.reply.token_ids is None:
            return None
        return arrays.concatenate(self.prompt, self.reply.token_ids)


def parent_of(node: Node, earlier: Sequence[Node]) -> int | None:
    """Return the parent of a call among those before it; None when it begins a line."""
    best, length = None, 0
    for index, candidate in enumerate(earlier):
        reach = _reach(candidate, node)
        if reach > length:
            best, length = index, reach
    return best


def _reach(candidate: Node, node: Node) -> int:
    """Return how long a beginning of a call another one is; 0 when it is none."""
    whole = candidate.whole
    if whole is not None and node.prompt is not None:
        size = len(whole)
        same = 0 < size <= len(node.prompt) and bool((node.prompt[:size] == whole).all())
        return size if same else 0
    size = len(candidate.after)
    return size if 0 < size <= len(node.before) and node.before[:size] == candidate.after else 0


def threads(nodes: Sequence[Node], parent: Sequence[int | None]) -> list[Thread]:
    """Return the line of the work that each call belongs to."""
    roots = [_root(index, parent) for index in range(len(nodes))]
    sizes = Counter(roots)
    if not sizes:
        return []
    first = max(sizes, key=lambda root: (nodes[root].begins_work, 0 if nodes[root].begins_work else sizes[root], -root))
    children = Counter(one for one in parent if one is not None)
    groups: dict[tuple[int | None, tuple[str, ...]], list[int]] = {}
    for index, node in enumerate(nodes):
        groups.setdefault((parent[index], node.before), []).append(index)
    replaced = {index for same in groups.values() for index in _repeats(same, children)}
    result = []
    for index, root in enumerate(roots):
        if nodes[root].frame != nodes[first].frame:
            result.append(Thread.AUXILIARY if sizes[root] == 1 else Thread.SUB_AGENT)
        else:
            result.append(Thread.AUXILIARY if index in replaced else Thread.MAIN)
    return result


def _repeats(same: Sequence[int], children: Counter[int]) -> list[int]:
    """Return which of several equal questions were asked again: all but those gone on from, or but the last."""
    gone_on = [index for index in same if children[index]] or same[-1:]
    return [index for index in same if index not in gone_on]


def _root(index: int, parent: Sequence[int | None]) -> int:
    while (above := parent[index]) is not None:
        index = above
    return index


def replies(nodes: Sequence[Node], parent: Sequence[int | None]) -> list[Reply]:
    """Return each call's reply with its ids told relative to its parent: what its prompt added to them."""
    result = []
    for node, above in zip(nodes, parent, strict=True):
        if node.prompt is None:
            result.append(node.reply)
            continue
        whole = nodes[above].whole if above is not None else None
        start = 0 if whole is None else len(whole)
        result.append(replace(node.reply, context_ids=node.prompt[start:], restart=whole is None))
    return result
