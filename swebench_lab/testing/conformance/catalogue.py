"""The catalogue of the conformance kit: every behaviour there is, and the loop that tries them on a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.capabilities import EVERYTHING

# Each registers its behaviours, in this order.
from swebench_lab.testing.conformance import bounds, checkpoints, commands, files, patches, sessions, streams, walls  # noqa: F401
from swebench_lab.testing.conformance.kit import GROUPS, Behaviour, Outcome, reference_snapshot, registered

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot


def behaviours(groups: Collection[str] = GROUPS) -> tuple[Behaviour, ...]:
    """Every behaviour of some groups, in order."""
    return registered(groups)


def run(
    opener: Callable[..., Sandbox], groups: Collection[str] = GROUPS, lacks: Collection[str] | None = None
) -> Iterator[Outcome]:
    """Try behaviours on a backend, one after the other.

    Args:
        opener: A backend's function: takes a Snapshot and options.
        groups: Which groups of behaviours.
        lacks: What the backend does not have, of `CAPABILITIES`; behaviours that need it are not tried. By default
            what its class does not declare.
    """
    with reference_snapshot() as snapshot:
        if lacks is None:
            with opener(snapshot) as box:
                lacks = EVERYTHING - box.capabilities
        for behaviour in behaviours(groups):
            lacking = tuple(sorted(behaviour.needs & set(lacks)))
            yield Outcome(behaviour, False, "", 0.0, lacking) if lacking else _try(behaviour, opener, snapshot)


def _try(behaviour: Behaviour, opener: Callable[..., Sandbox], snapshot: Snapshot) -> Outcome:
    start = time.perf_counter()
    try:
        behaviour.check(lambda **options: opener(snapshot, **options))
        success, message = True, ""
    except (AssertionError, SandboxError, OSError) as error:
        success, message = False, f"{type(error).__name__}: {error}"
    return Outcome(behaviour, success, message, time.perf_counter() - start)
