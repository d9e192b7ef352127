"""Red team: attacks on sandboxes and on grading, each of which must fail, carried out and judged from outside.

```python
report = redteam(sandboxes)            # every attack; a Report
report = redteam(sandboxes, names=["links", "fork bomb"])
report.to_frame()                      # name, category, held, evidence, ...
```

Canaries are laid on this machine (files, a process, sockets, shared memory, a neighbour's box), attacks run in fresh
boxes and go for them, and the canaries are counted again. Nothing of the machine itself is put at risk, no load is
without its own end, and nothing outside the machine is contacted. Where a tier, or grading, is known not to hold an
attack, the attack says so (`stated`); anything else that gets through is a bug.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab import _html
from swebench_lab.errors import LabError, SandboxUnavailable
from swebench_lab.snapshots.environment.specs import spec_of
from swebench_lab.testing.redteam.attack import Attack
from swebench_lab.testing.redteam.boxes import FILES, NEIGHBOURS, PROCESSES
from swebench_lab.testing.redteam.forgeries.patches import FORGERIES
from swebench_lab.testing.redteam.forgeries.target import Forgery, target
from swebench_lab.testing.redteam.ground import Ground
from swebench_lab.testing.redteam.kernels import DEVICES, KERNEL, NETWORK, RIGHTS
from swebench_lab.testing.redteam.loads import RESOURCES
from swebench_lab.testing.redteam.lures import GIT, LINKS
from swebench_lab.testing.redteam.traces import LAYERS, OUTPUT
from swebench_lab.testing.redteam.verifiers import CATEGORY, FORGED_VERIFIERS, MODES, SHARED, VerifierForgery
from swebench_lab.testing.redteam.verifiers import attack as attack_verifiers
from swebench_lab.testing.redteam.victim import KINDS, make_victim

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.records.task import Task
    from swebench_lab.snapshots.factory import SandboxFactory

ATTACKS: tuple[Attack, ...] = (
    *FILES,
    *LINKS,
    *PROCESSES,
    *NEIGHBOURS,
    *KERNEL,
    *DEVICES,
    *RIGHTS,
    *NETWORK,
    *GIT,
    *LAYERS,
    *RESOURCES,
    *OUTPUT,
)
"""Attacks on boxes, and on the host that uses them."""

GRADING = "grading"
_SECONDS = 15.0
"""How long the tests of a forged patch may take; they take a second, and some patches have them never end."""
_WALLED = ("namespace", "landlock", "docker")
_HELD, _THROUGH = "held", "got through"


@dataclass(frozen=True)
class Outcome:
    """What came of one attack.

    Attributes:
        name: The attack.
        category: What it aimed at.
        held: Whether it failed.
        evidence: What shows that it did not, or why it got another verdict than it must.
        must: The verdict that it must get: `held`, or what grading must say of a forged patch.
        got: The verdict that it got.
        stated: Why it is known to get through here; empty when it must not.
        task: The task it was tried on; empty for attacks on boxes.
        tries: What it tries.
        seconds: Wall time.
    """

    name: str
    category: str
    held: bool
    evidence: str = ""
    stated: str = ""
    task: str = ""
    tries: str = ""
    seconds: float = 0.0
    must: str = _HELD
    got: str = _HELD


@dataclass(frozen=True)
class Report:
    """What came of a red team's work.

    Attributes:
        tier: How strong the walls of the attacked boxes are.
        outcomes: One for each attack (and task, for attacks on grading).
    """

    tier: str
    outcomes: tuple[Outcome, ...]

    @property
    def successes(self) -> tuple[Outcome, ...]:
        """Attacks that got through and must not: bugs."""
        return tuple(one for one in self.outcomes if not one.held and not one.stated)

    @property
    def stated_gaps(self) -> tuple[Outcome, ...]:
        """Attacks that got through where that is stated."""
        return tuple(one for one in self.outcomes if not one.held and one.stated)

    @property
    def misjudged(self) -> tuple[Outcome, ...]:
        """Attacks that failed, and were not told for what they are: for example a forged run that counts as a failed one."""
        return tuple(one for one in self.outcomes if one.held and one.must not in ("", one.got))

    @property
    def ok(self) -> bool:
        """Whether every attack got the verdict that it must get, but for those whose success is stated."""
        return not self.successes and not self.misjudged

    def to_frame(self) -> pl.DataFrame:
        """Return one row an attack: `category`, `name`, `must`, `got`, `held`, `evidence`, `stated`, `task`, `tries`,
        `seconds`.
        """
        import polars as pl

        columns = {
            "category": str,
            "name": str,
            "must": str,
            "got": str,
            "held": bool,
            "evidence": str,
            "stated": str,
            "task": str,
            "tries": str,
            "seconds": float,
        }
        rows = [{column: getattr(one, column) for column in columns} for one in self.outcomes]
        return pl.DataFrame(rows, schema=columns)

    def __repr__(self) -> str:
        """Return a line of counts, and one for each attack that got through."""
        count = sum(one.held for one in self.outcomes)
        counts = f"{count} of {len(self.outcomes)} attacks held, {len(self.stated_gaps)} got through as stated"
        lines = [f"Report({self.tier}: {counts}, {len(self.successes)} SUCCEEDED)"]
        lines += [f"  SUCCEEDED  {one.category}: {one.name}: {one.evidence}" for one in self.successes]
        lines += [
            f"  misjudged  {one.category}: {one.name}: {one.got}, not {one.must} {one.evidence}"
            for one in self.misjudged
        ]
        lines += [f"  stated     {one.category}: {one.name}: {one.stated}" for one in self.stated_gaps]
        return _html.plain("\n".join(lines))

    def _repr_html_(self) -> str:
        columns = ("category", "attack", "must be", "is", "evidence", "stated")
        rows = [(o.category, o.name, o.must, o.got, o.evidence, o.stated) for o in self.outcomes]
        return _html.card(repr(self).split("\n")[0], _html.table(columns, rows))


def redteam(
    sandboxes: SandboxFactory,
    tasks: Iterable[Task] | None = None,
    names: Iterable[str] | None = None,
    *,
    progress: bool = True,
) -> Report:
    """Attack the boxes of a factory, and the grading in them.

    Args:
        sandboxes: Makes the boxes; not of the backend "local", which has no walls: attacks would hit this machine.
        tasks: What forged patches are graded on, those against pytest or against other runners as each task's tests are
            run; small tasks of its own, for each runner, when not given.
        names: Names or categories of the attacks; all when not given.
        progress: Whether a bar is shown.

    Returns:
        A Report; `report.successes` holds what must not be.

    Raises:
        ValueError: A name is unknown.
        SandboxUnavailable: The factory's boxes have no walls, or cannot be made here.
    """
    from tqdm.auto import tqdm

    if sandboxes.backend.partition("-")[0] not in _WALLED:
        raise SandboxUnavailable(
            f"sandboxes of the backend {sandboxes.backend!r} have no walls: attacks would hit this machine; attack "
            f"{' or '.join(map(repr, _WALLED))} sandboxes"
        )
    attacks, forgeries, verifiers = _select(names)
    if sandboxes.backend.partition("-")[0] != "namespace":
        verifiers = []  # their victims are shown over this machine's own programs, which other backends do not do
    with tempfile.TemporaryDirectory(prefix="lab-victim-") as folder:
        kinds = {"pytest", *(forgery.victim for forgery in forgeries)}
        victims = {kind: make_victim(_folder(folder, kind), kind) for kind in kinds}
        if tasks is None:
            pairs = [(victims[forgery.victim], forgery) for forgery in forgeries]
        else:
            pairs = [
                (task, forgery) for task in tasks for forgery in forgeries if forgery.victim == _runner(sandboxes, task)
            ]
        total = len(attacks) + len(pairs) + len(verifiers) * len(MODES)
        attempts = chain(
            _on_boxes(sandboxes, victims["pytest"], attacks),
            _on_grading(sandboxes, pairs),
            _on_verifiers(sandboxes, Path(folder), verifiers),
        )
        outcomes = list(tqdm(attempts, "redteam", total, unit="attack", disable=not progress))
    return Report(sandboxes.tier, tuple(outcomes))


def _runner(sandboxes: SandboxFactory, task: Task) -> str:
    """Return the kind of victim whose tests are run as a task's are."""
    from swebench_lab.grading.execution.test_command import runs_pytest

    spec = sandboxes.cache.spec(task) or spec_of(sandboxes.snapshot(task))
    return "pytest" if runs_pytest(spec.test_command) else "unittest"


def _folder(parent: str, kind: str) -> Path:
    folder = Path(parent) / kind
    folder.mkdir()
    return folder


def catalogue() -> pl.DataFrame:
    """Return one row an attack: `category`, `name`, `must` (the verdict that it must get), `tries`, `stated`."""
    import polars as pl

    rows = [
        (one.category, one.name, _HELD, one.tries, "; ".join(f"{tier}: {why}" for tier, why in one.gaps.items()))
        for one in ATTACKS
    ]
    rows += [(GRADING, one.name, one.verdict, one.tries, one.gap) for one in FORGERIES]
    rows += [(CATEGORY, one.name, "unresolved", one.tries, one.gap) for one in FORGED_VERIFIERS]
    return pl.DataFrame(rows, schema=["category", "name", "must", "tries", "stated"], orient="row")


def _select(names: Iterable[str] | None) -> tuple[list[Attack], list[Forgery], list[VerifierForgery]]:
    """The attacks with these names or of these categories."""
    if names is None:
        return list(ATTACKS), list(FORGERIES), list(FORGED_VERIFIERS)
    selection = {names} if isinstance(names, str) else set(names)
    attacks = [one for one in ATTACKS if selection & {one.name, one.category}]
    forgeries = [one for one in FORGERIES if selection & {one.name, GRADING}]
    verifiers = [one for one in FORGED_VERIFIERS if selection & {one.name, CATEGORY}]
    available = {name for one in attacks for name in (one.name, one.category)} | {GRADING, CATEGORY}
    available |= {one.name for one in forgeries} | {one.name for one in verifiers}
    if unknown := sorted(selection - available):
        raise ValueError(
            f"no attack and no category is called {unknown[0]!r}; `swebench_lab.testing.redteam.ATTACKS` lists them"
        )
    return attacks, forgeries, verifiers


def _on_boxes(sandboxes: SandboxFactory, victim: Task, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    if not attacks:
        return
    with Ground(sandboxes, sandboxes.snapshot(victim)) as ground:
        for attack in attacks:
            yield attempt(attack, ground)


def attempt(attack: Attack, ground: Ground) -> Outcome:
    """Carry out one attack in a fresh box.

    An attack that breaks has shown nothing, so it counts as one that got through, with the error as evidence.
    """
    start = time.monotonic()
    with ground.open(**attack.limits) as box:
        tier = box.tier
        try:
            evidence = attack.run(ground, box)
        except (LabError, OSError, AssertionError) as error:
            ground.harm()
            evidence = f"the attack could not be carried out: {type(error).__name__}: {error}"
    gap = "" if not evidence else attack.gaps.get(tier, "")
    seconds, got = time.monotonic() - start, _THROUGH if evidence else _HELD
    return Outcome(attack.name, attack.category, not evidence, evidence, gap, "", attack.tries, seconds, _HELD, got)


def _on_grading(sandboxes: SandboxFactory, pairs: Sequence[tuple[Task, Forgery]]) -> Iterator[Outcome]:
    from swebench_lab.grading.evaluator import Evaluator

    if not pairs:
        return
    with tempfile.TemporaryDirectory(prefix="lab-certificates-") as folder:
        evaluator = Evaluator(sandboxes, timeout=_SECONDS, certificates=folder)
        for task, forgery in pairs:
            evaluator.certificate(task, audit="none")  # the canary watches certified tasks
            yield grade(forgery, task, evaluator)


def _on_verifiers(
    sandboxes: SandboxFactory, folder: Path, forgeries: Sequence[VerifierForgery]
) -> Iterator[Outcome]:  # fmt: skip
    from swebench_lab.grading.evaluator import Evaluator

    if not forgeries:
        return
    with tempfile.TemporaryDirectory(prefix="lab-certificates-") as certificates:
        evaluator = Evaluator(sandboxes, certificates=certificates)
        for one in attack_verifiers(folder, forgeries, evaluator):
            gap = one.forgery.gap if one.evidence and one.mode == SHARED else ""
            must = one.must if one.mode == SHARED else "unresolved"
            yield Outcome(
                f"{one.forgery.name} ({one.mode})", CATEGORY, not one.evidence, one.evidence, gap,
                f"{one.forgery.kind} verifier", one.forgery.tries, one.seconds, must, one.status,
            )  # fmt: skip


def grade(forgery: Forgery, task: Task, evaluator: Evaluator) -> Outcome:
    """Grade one forged patch; grading holds when the verdict is anything but *resolved*."""
    start = time.monotonic()
    with evaluator.sandboxes.open(task) as box:
        facts = target(task, box)
    verdict = evaluator.grade(task, forgery.make(facts))
    # Of another task than our own, more than one verdict may be right: all but one.
    must = forgery.verdict if task.id in KINDS.values() else ""
    evidence = f"resolved: {', '.join(verdict.notes) or 'nothing was noticed'}" if verdict.resolved else ""
    if not evidence and must not in ("", verdict.status):
        evidence = f"({'; '.join([verdict.reason, *verdict.notes])})"
    gap = forgery.gap if verdict.resolved else ""
    seconds = time.monotonic() - start
    return Outcome(
        forgery.name,
        GRADING,
        not verdict.resolved,
        evidence,
        gap,
        task.id,
        forgery.tries,
        seconds,
        must,
        verdict.status,
    )


__all__ = [
    "ATTACKS",
    "FORGERIES",
    "Attack",
    "Forgery",
    "Ground",
    "Outcome",
    "Report",
    "attempt",
    "catalogue",
    "grade",
    "redteam",
]
