"""Directed graphs in which an edge leads from a node to what it depends on."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from .errors import CycleError, MissingNodeError


class Graph:
    """Nodes with their dependencies. Insertion order is kept."""

    def __init__(self, edges: Mapping[Hashable, Iterable[Hashable]] | None = None):
        self._dependencies: dict[Hashable, dict[Hashable, None]] = {}
        for node, dependencies in (edges or {}).items():
            self.add(node, *dependencies)

    def add(self, node: Hashable, *dependencies: Hashable) -> None:
        """Add a node, and edges to its dependencies, which are added too."""
        targets = self._dependencies.setdefault(node, {})
        for dependency in dependencies:
            targets[dependency] = None
            self._dependencies.setdefault(dependency, {})

    def remove(self, node: Hashable) -> None:
        """Remove a node and all edges to and from it."""
        self._require(node)
        del self._dependencies[node]
        for targets in self._dependencies.values():
            targets.pop(node, None)

    def _require(self, node: Hashable) -> None:
        if node not in self._dependencies:
            raise MissingNodeError(node)

    def dependencies(self, node: Hashable) -> list:
        self._require(node)
        return list(self._dependencies[node])

    def dependents(self, node: Hashable) -> list:
        self._require(node)
        return [other for other, targets in self._dependencies.items() if node in targets]

    def edges(self) -> Iterator[tuple]:
        for node, targets in self._dependencies.items():
            for target in targets:
                yield node, target

    def roots(self) -> list:
        """Return the nodes that nothing depends on."""
        needed = {target for _, target in self.edges()}
        return [node for node in self if node not in needed]

    def leaves(self) -> list:
        """Return the nodes that depend on nothing."""
        return [node for node, targets in self._dependencies.items() if not targets]

    def reversed(self) -> Graph:
        result = Graph({node: () for node in self})
        for node, target in self.edges():
            result.add(target, node)
        return result

    def reachable(self, *starts: Hashable) -> set:
        """Return everything the given nodes need, themselves included."""
        seen = set()
        queue = deque(starts)
        while queue:
            node = queue.popleft()
            self._require(node)
            if node not in seen:
                seen.add(node)
                queue.extend(self._dependencies[node])
        return seen

    def subgraph(self, nodes: Iterable[Hashable]) -> Graph:
        """Return the graph of the given nodes and the edges among them."""
        kept = set(nodes)
        result = Graph()
        for node in self:
            if node in kept:
                result.add(node, *(target for target in self._dependencies[node] if target in kept))
        return result

    def find_path(self, start: Hashable, goal: Hashable) -> list | None:
        """Return a shortest path of dependencies, or None if there is none."""
        self._require(start)
        self._require(goal)
        came_from = {start: None}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            if node == goal:
                path = []
                while node is not None:
                    path.append(node)
                    node = came_from[node]
                return path[::-1]
            for target in self._dependencies[node]:
                if target not in came_from:
                    came_from[target] = node
                    queue.append(target)
        return None

    def find_cycle(self) -> list | None:
        """Return the nodes of a cycle, the first one repeated, or None."""
        done = set()
        for start in self:
            path: list = []
            on_path = set()
            stack = [(start, iter(self._dependencies[start]))] if start not in done else []
            while stack:
                node, targets = stack[-1]
                if node not in on_path:
                    on_path.add(node)
                    path.append(node)
                for target in targets:
                    if target in on_path:
                        return [*path[path.index(target) :], target]
                    if target not in done:
                        stack.append((target, iter(self._dependencies[target])))
                        break
                else:
                    stack.pop()
                    path.pop()
                    on_path.discard(node)
                    done.add(node)
        return None

    def components(self) -> list[list]:
        """Return the strongly connected components, dependencies first."""
        index: dict = {}
        low: dict = {}
        stack: list = []
        found: list[list] = []

        def connect(node):
            index[node] = low[node] = len(index)
            stack.append(node)
            for target in self._dependencies[node]:
                if target not in index:
                    connect(target)
                    low[node] = min(low[node], low[target])
                elif target in stack:
                    low[node] = min(low[node], index[target])
            if low[node] == index[node]:
                position = stack.index(node)
                found.append(stack[position:])
                del stack[position:]

        for node in self:
            if node not in index:
                connect(node)
        return found

    def order(self, key=None) -> list:
        """Return all nodes, every one after its dependencies.

        Among nodes that could come next, the one with the smallest ``key`` is
        taken; without a key, the one added first. Raises CycleError.
        """
        position = {node: number for number, node in enumerate(self)}
        waiting = {node: len(targets) for node, targets in self._dependencies.items()}
        dependents = self.reversed()

        def entry(node):
            return (key(node) if key else 0, position[node], node)

        ready = [entry(node) for node, count in waiting.items() if count == 0]
        heapify(ready)
        result = []
        while ready:
            node = heappop(ready)[-1]
            result.append(node)
            for dependent in dependents._dependencies[node]:
                waiting[dependent] -= 1
                if waiting[dependent] == 0:
                    heappush(ready, entry(dependent))
        if len(result) < len(self):
            raise CycleError(self.find_cycle())
        return result

    def layers(self) -> list[list]:
        """Group the nodes: each layer only needs the ones before it."""
        level: dict = {}
        for node in self.order():
            level[node] = 1 + max((level[target] for target in self._dependencies[node]), default=-1)
        result: list[list] = [[] for _ in range(max(level.values(), default=-1) + 1)]
        for node in self:
            result[level[node]].append(node)
        return result

    def reduced(self) -> Graph:
        """Return the graph without the edges that a longer path makes needless."""
        if (cycle := self.find_cycle()) is not None:
            raise CycleError(cycle)
        result = Graph()
        for node, targets in self._dependencies.items():
            implied = set()
            for target in targets:
                implied |= self.reachable(target) - {target}
            result.add(node, *(target for target in targets if target not in implied))
        return result

    def __contains__(self, node: Hashable) -> bool:
        return node in self._dependencies

    def __iter__(self) -> Iterator:
        return iter(self._dependencies)

    def __len__(self) -> int:
        return len(self._dependencies)

    def to_dot(self, name: str = "dependencies") -> str:
        """Return the graph in the DOT language."""
        lines = [f"digraph {name} {{"]
        for node, targets in self._dependencies.items():
            if not targets:
                lines.append(f'  "{node}";')
            lines.extend(f'  "{node}" -> "{target}";' for target in targets)
        return "\n".join([*lines, "}"])
