"""Families: tasks whose edits touch code of the same shape, so that a split by family never shows a function twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from swebench_lab.tasks.making.candidates import Candidate


def shapes(candidate: Candidate) -> tuple[str, ...]:
    """Return the shapes of the functions and classes that a candidate changes, sorted.

    A shape is a hash of the syntax tree without names, constants and docstrings (`Module.shape`).
    """
    return tuple(sorted(set(_shapes(candidate))))


def _shapes(candidate: Candidate) -> Iterator[str]:
    module = candidate.module
    for edit in candidate.edits:
        yield module.shape(edit.entity)
        for node in edit.changes:
            if isinstance(node, cst.ClassDef):
                continue
            first, last = module.lines(node)
            for entity in module.entities:
                if not entity.is_class and entity.first_line <= last and first <= entity.last_line:
                    yield module.shape(entity)


def families(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return one family name a task: tasks that share a shape, directly or through others, have the same.

    Args:
        groups: The shapes of each task.
    """
    parent: dict[str, str] = {}

    def root(shape: str) -> str:
        while parent.setdefault(shape, shape) != shape:
            shape = parent[shape]
        return shape

    for group in groups:
        for shape in group[1:]:
            one, other = sorted((root(group[0]), root(shape)))
            parent[other] = one
    return [root(group[0]) if group else "" for group in groups]
