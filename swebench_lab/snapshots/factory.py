"""SandboxFactory: Task → Snapshot → Sandbox; which kind of box is chosen here and nowhere else."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from swebench_lab import _html
from swebench_lab.errors import LabError, SandboxClosed, SandboxError, SandboxUnavailable, SnapshotError
from swebench_lab.records.tables.overview import Overview, count_title
from swebench_lab.records.task import Task
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.quotas import quota_of
from swebench_lab.sandbox.relay import PREFIX, AllowList, attach, variables
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.backends import Opening, backend_named
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.environment.specs import Table
from swebench_lab.snapshots.runner_check import check_runner, is_shown

if TYPE_CHECKING:
    from swebench_lab.sandbox.checkpoints import Layer, LayerStore
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.packed_layers import StepState

_WITHOUT_WALLS = (
    'sandboxes of the backend "local" have no walls: commands run on this machine with all your rights, see your '
    "files, your network and the cached answers. Use it to try things out, never for agents you do not trust"
)
_warned = threading.Event()

log = logging.getLogger(__name__)


class StoredAttempt(Protocol):
    """What re-entering needs of an attempt: a Rollout has it."""

    @property
    def task(self) -> Task:
        """What was attempted."""

    @property
    def layers(self) -> str:
        """Folder of the packed layers of its steps; empty when none were kept."""

    @property
    def trajectory(self) -> StoredSteps:
        """What happened."""


BY_TASK = "task"
"""The network of a factory that gives each task what it asks for."""


class StoredSteps(Protocol):
    """The steps of a stored attempt."""

    @property
    def steps(self) -> Sequence[StepState]:
        """In order."""


class SandboxFactory:
    """Makes sandboxes for tasks, building and caching what they start from.

    Args:
        backend: `"namespace"` (Linux namespaces, as root or not, whichever this user can have; the name of a tier,
            `"namespace-root"` or `"namespace-rootless"`, asks for that one), `"landlock"` (where namespaces are refused;
            weaker, and paths differ), `"docker"` (containers of a local or remote engine) or `"local"` (no isolation at
            all; warns).
        cache: Where Snapshots are kept: a SnapshotCache or a folder; the user's cache folder when not given.
        scratch: Folder for what boxes write; memory, up to `limits.disk`, when not given.
        limits: What one box may use.
        network: `"none"`, `"host"`, `"allow:HOST,*.SUFFIX,…"` (a relay that lets these hosts through, and names them:
            `box.relay.contacts`; see `sandbox.relay`), or `"task"`: what a task asks for, which is never the host's own.
        workers: How many tasks are prepared at once; by default twice the processors, at most 16.
        allow_python: Whether a Python that is not on this machine may be replaced: `"exact"` (no), `"install"` or
            `"nearest"`; see SnapshotCache, whose own answer counts when one is given as `cache`.
        specs: Files of specs that override the known ones, for this factory's tasks; see SnapshotCache, whose own count
            when one is given as `cache`, as with `allow_python`.
        repos: Folders of clones that are looked into before anything is fetched; likewise.
        bases: Name of a container image to what is taken instead; likewise.
        options: Further options of the backend; of `"docker"` the fields of `DockerOptions`.

    Raises:
        ValueError: The backend, one of its options, the network or `allow_python` is unknown; or `specs`, `repos`
            or `bases` are given beside a SnapshotCache, which has its own.
        TaskError: A file of specs cannot be read, or has a wrong field.
    """

    def __init__(
        self,
        backend: str = "namespace",
        *,
        cache: SnapshotCache | str | Path | None = None,
        scratch: str | Path | None = None,
        limits: Limits | None = None,
        network: str = "none",
        workers: int | None = None,
        allow_python: str = "exact",
        specs: str | Path | Sequence[str | Path | Table] | None = None,
        repos: str | Path | Sequence[str | Path] | None = None,
        bases: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = dict(options or {})
        self._backend = backend_named(backend, self.options)
        if network not in ("none", "host", BY_TASK):
            if not network.startswith(PREFIX):
                raise ValueError(f"unknown network {network!r}; known are 'none', 'host', 'allow:HOST,…' and 'task'")
            AllowList(network)
        self.backend = backend
        if not isinstance(cache, SnapshotCache):
            cache = SnapshotCache(cache, allow_python=allow_python, specs=specs, repos=repos, bases=bases)
        elif specs is not None or repos is not None or bases is not None:
            raise ValueError(
                "specs, repos and bases are the SnapshotCache's: give them to the one that is given as cache"
            )
        self.cache = cache
        self.scratch = Path(scratch).expanduser().absolute() if scratch else None
        self.limits = limits or Limits()
        self.network = network
        self.workers = workers
        if backend == "docker" and not self.cache.images:
            self.cache.images = "engine"
        self.closed = False
        self._boxes: weakref.WeakSet[Sandbox] = weakref.WeakSet()
        self._uses: dict[str, IO[str]] = {}
        self._lock = threading.Lock()
        if backend == "local" and not _warned.is_set():
            _warned.set()
            warnings.warn(_WITHOUT_WALLS, stacklevel=2)

    # --- Task → Snapshot ----------------------------------------------------------------------------------------------

    def prepare(self, tasks: Iterable[Task], workers: int | None = None, raise_errors: bool = False) -> Overview:
        """Build the Snapshots of tasks that are not there yet: different repositories first, then the rest.

        It ends with proof, once for each environment and commit, that the test runner starts on the untouched tree.

        Args:
            tasks: The tasks.
            workers: How many at once; the factory's own number when not given.
            raise_errors: Raise the first error instead of noting it.

        Returns:
            A table; its `.frame` has one row a task, in order: `id`, `key`, `status` (`built`, `cached` or `failed`),
            `seconds`, `bytes` (of its own tree; the environment is shared), `error`.
        """
        import polars as pl

        all_tasks = list(tasks)
        rows: dict[str, dict[str, Any]] = {}
        missing, there = [], set()
        for task in all_tasks:
            began = time.perf_counter()
            snapshot = self.present(task)
            if snapshot is None or not is_shown(self.cache.root, snapshot):
                missing.append(task)
                there |= {task.id} if snapshot else set()
            else:
                rows[task.id] = self._row(task, "cached", began, snapshot)
        for task, row in self._build_all(missing, len(all_tasks), workers, raise_errors):
            rows[task.id] = row | ({"status": "cached"} if task.id in there and row["status"] == "built" else {})
        schema = {"id": pl.String, "key": pl.String, "status": pl.String, "seconds": pl.Float64, "bytes": pl.Int64,
                  "error": pl.String}  # fmt: skip
        frame = pl.DataFrame([rows[task.id] for task in all_tasks], schema=schema)
        return Overview(frame, count_title("prepare", frame), ("id", "status", "seconds", "error"))

    def present(self, task: Task) -> Snapshot | None:
        """Return a task's Snapshot when it is there; nothing is built and no network used."""
        try:
            return self.cache.get(task)
        except LabError:  # the task's spec is wrong, for example: building it will say so in its row
            return None

    def _build_all(
        self, tasks: Sequence[Task], total: int, workers: int | None, raise_errors: bool
    ) -> Iterator[tuple[Task, dict[str, Any]]]:
        if not tasks:
            return
        self.cache.sweep()
        from tqdm.auto import tqdm

        threads = workers or self.workers or min(16, 2 * (os.cpu_count() or 1))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        try:
            running = {pool.submit(self._build, task, raise_errors): task for task in _unique_first(tasks)}
            futures: Iterator[Future[dict[str, Any]]] = as_completed(running)
            for future in tqdm(futures, desc="prepare", unit="task", total=total, initial=total - len(tasks)):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _build(self, task: Task, raise_errors: bool) -> dict[str, Any]:
        """Build one Snapshot; this is where an error of one task becomes a row instead of ending all."""
        began = time.perf_counter()
        try:
            snapshot = self.cache.build(task)
            check_runner(self.cache.root, task, snapshot, self.open)
            return self._row(task, "built", began, snapshot)
        except (LabError, OSError) as error:
            if raise_errors:
                raise
            return self._row(task, "failed", began, error=f"{type(error).__name__}: {error}")

    @staticmethod
    def _row(
        task: Task, status: str, began: float, snapshot: Snapshot | None = None, error: str = ""
    ) -> dict[str, Any]:
        return {"id": task.id, "key": snapshot.key if snapshot else "", "status": status,
                "seconds": time.perf_counter() - began, "bytes": snapshot.meta["bytes"] if snapshot else 0,
                "error": error}  # fmt: skip

    def snapshot(self, task: Task) -> Snapshot:
        """Return a task's Snapshot, building it when it is not there.

        Raises:
            SnapshotError: It cannot be built.
        """
        return self.cache.build(task)

    def key(self, task: Task) -> str:
        """Return the key of a task's Snapshot without building it; empty when that takes building to know."""
        return self.cache.key(task)

    def from_image(
        self, source: str | Path, *, workdir: str | None = None, env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Snapshot:  # fmt: skip
        """Return the Snapshot of an image, or of a root file system, to open boxes over; see `SnapshotCache.from_image`.

        Raises:
            SnapshotError: It cannot be had or read, or has no such user.
        """
        return self.cache.from_image(source, workdir=workdir, env=env, user=user)

    def from_dockerfile(
        self, path: str | Path, context: str | Path | None = None, *, target: str = "",
        args: Mapping[str, str] | None = None, bases: Mapping[str, str | Path] | None = None, network: str = "none",
        **choices: Any,
    ) -> Snapshot:  # fmt: skip
        """Return the Snapshot of a Dockerfile, built without an engine; see `SnapshotCache.from_dockerfile`.

        Raises:
            SnapshotError: The file is wrong or outside the subset, a base cannot be had, or an instruction failed.
        """
        return self.cache.from_dockerfile(
            path, context, target=target, args=args, bases=bases, network=network, **choices
        )

    @property
    def grading_network(self) -> str:
        """The network of boxes that grade: where it can be had, a few addresses that nobody has never answer.

        Suites connect to them to see a time-out. An agent's box does not have it: there, every address fails at once.
        """
        return "dropping" if self.network in ("none", BY_TASK) and self._backend.drops else self.network

    def network_for(self, task: Task, grading: bool = False) -> str:
        """Return the network of a task's boxes: the factory's, or with `"task"` what the task, or else its verifier, asks for."""
        if self.network != BY_TASK:
            return self.grading_network if grading else self.network
        own_network = grading and task.verifier and task.verifier.network
        return own_network or task.network or (self.grading_network if grading else "none")

    # --- Snapshot → Sandbox -------------------------------------------------------------------------------------------

    @property
    def tier(self) -> str:
        """How strong the walls of its boxes are, such as `namespace-root`, `namespace-rootless` or `local`."""
        if self.backend == "namespace":
            from swebench_lab.sandbox.zygote.client import default_tier

            return default_tier()
        return self.backend

    def open(
        self, task: Task | Snapshot, *, layers: Sequence[Layer] = (), limits: Limits | None = None,
        network: str | None = None, env: Mapping[str, str] | None = None, store: LayerStore | None = None,
        user: str | None = None,
    ) -> Sandbox:  # fmt: skip
        """Open a sandbox; close it, or use it as a context manager.

        Args:
            task: The task, or its Snapshot.
            layers: Checkpoints to start on top of it, oldest first.
            limits: What it may use, instead of the factory's.
            network: As for the factory, instead of its own; `network_for(task, grading=True)` for boxes that grade.
            env: Further variables of every command.
            store: Where its checkpoints are kept; a folder that goes with this process when not given.
            user: Who runs commands, reads and writes, as `USER[:GROUP]`; whom the Snapshot says when not given.

        Raises:
            SnapshotError: The Snapshot cannot be built.
            SandboxUnavailable: This machine cannot make this kind of box; the message says what to do.
            QuotaExceeded: This user has as many open as the administrator of the machine allows.
            SandboxClosed: The factory was closed.
        """
        if self.closed:
            raise SandboxClosed("opening a sandbox: the SandboxFactory was closed; make another one")
        if sys.platform != "linux" and self._backend.needs_linux:
            raise SandboxUnavailable(
                f"open a {self.backend!r} sandbox: sandboxes on this machine need Linux, and this is {sys.platform}; "
                "SandboxFactory('docker') or a cluster needs none here (on Windows, WSL is a Linux)"
            )
        snapshot = self._hold_snapshot(task)
        if snapshot.own_root and not self._backend.shows_images:
            raise SandboxUnavailable(
                f"a Snapshot of a container image needs the backend 'namespace' or 'docker', not {self.backend!r}"
            )
        network_mode = network or (self.network if isinstance(task, Snapshot) else self.network_for(task))
        allowed = AllowList(network_mode) if network_mode.startswith(PREFIX) else None
        opening: Opening = {
            "layers": tuple(layers),
            "limits": quota_of().cap(limits or self.limits),
            "scratch": self.scratch,
            "store": store,
            "network": "none" if allowed or network_mode == BY_TASK else network_mode,
            "env": {**(variables() if allowed else {}), **(env or {})},
            "user": user,
        }
        began = time.perf_counter()
        try:
            box = self._backend.open(snapshot, opening, self.options)
        except SandboxUnavailable as error:
            if self.backend == "local":
                raise
            raise SandboxUnavailable(
                f"{error}. `swebench-lab doctor` shows what is missing on this machine; SandboxFactory('local') runs "
                "without any isolation, for trying things out"
            ) from error
        if allowed:
            attach(box, allowed)
        box.task_id = "" if isinstance(task, Snapshot) else task.id
        log.debug("sandbox %s of %s opened in %.3f s", box.id, snapshot.key[:12], time.perf_counter() - began)
        with self._lock:
            self._boxes.add(box)
        return box

    def _hold_snapshot(self, task: Task | Snapshot) -> Snapshot:
        """A Snapshot that no process evicts before this factory is closed."""
        for _ in range(3):
            snapshot = task if isinstance(task, Snapshot) else self.snapshot(task)
            with self._lock:
                if snapshot.key not in self._uses:
                    self._uses[snapshot.key] = self.cache.use(snapshot)
            if all(layer.exists() for layer in snapshot.layers):
                return snapshot
            if isinstance(task, Snapshot):
                break
        raise SnapshotError(
            f"open a sandbox: files of the Snapshot {snapshot.key} are gone from {self.cache.root}; open it by its task, "
            "which builds it again"
        )

    def reenter(self, attempt: StoredAttempt, step: int = -1) -> Sandbox:
        """Open a live sandbox of a stored attempt, as it was after one of its steps.

        Files are as they were, and so are the session's directory and variables. Processes that ran then do not.

        Args:
            attempt: A Rollout whose step layers were kept: one that was collected with a `run_dir`.
            step: Index of the step; -1 is the last one. For the tree before the first step use `open(attempt.task)`.

        Raises:
            SandboxError: The step does not exist, or a layer up to it was not kept or is damaged.
        """
        return self.open(attempt.task, layers=self.step_layers(attempt, step))

    def step_layers(self, attempt: StoredAttempt, step: int = -1, have: Sequence[Layer] = ()) -> list[Layer]:
        """Return the layers of a stored attempt up to one of its steps, oldest first: what `open(layers=…)` takes.

        Args:
            attempt: A Rollout whose step layers were kept.
            step: Index of the step; -1 is the last one.
            have: The first of these layers, from an earlier call; they are not unpacked again.

        Raises:
            SandboxError: The step does not exist, or a layer up to it was not kept or is damaged.
        """
        from swebench_lab.sandbox.packed_layers import PackedLayers

        steps, doing = attempt.trajectory.steps, f"re-entering {attempt.task.id!r}"
        if not -len(steps) <= step < len(steps):
            raise SandboxError(f"{doing}: it has {len(steps)} steps, counted from 0: there is no step {step}")
        until = steps[: step % len(steps) + 1]
        if not attempt.layers or not all(each.layer for each in until):
            raise SandboxError(
                f"{doing} at step {step}: its step layers were not kept; collect with a run_dir and an agent with "
                "keep_layers=True"
            )
        return PackedLayers(attempt.layers).unpack(until, f"{doing} at step {step}", have)

    def remove(self, keys: Iterable[str]) -> list[str]:
        """Remove Snapshots from the cache, those that this factory has used included; returns what was removed.

        No box over them may be open. Those that another factory uses stay.

        Args:
            keys: Of the Snapshots.
        """
        key_set = set(keys)
        with self._lock:
            uses = [self._uses.pop(key) for key in key_set if key in self._uses]
        for file in uses:
            file.close()
        return self.cache.evict(key_set)

    def close(self) -> None:
        """Close every sandbox that it opened and that is still open; closing twice is fine."""
        self.closed = True
        with self._lock:
            boxes = list(self._boxes)
            self._boxes.clear()
            uses = list(self._uses.values())
            self._uses.clear()
        for box in boxes:
            box.close()
        for file in uses:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- as a value ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return its configuration as plain values; `SandboxFactory.from_dict` makes an equal one."""
        return {
            "backend": self.backend,
            "cache": str(self.cache.root),
            "scratch": str(self.scratch) if self.scratch else None,
            "limits": asdict(self.limits),
            "network": self.network,
            "workers": self.workers,
            "allow_python": self.cache.allow_python,
            "specs": None if self.cache.specs is None else [asdict(table) for table in self.cache.specs],
            "repos": None if self.cache.repos is None else [str(folder) for folder in self.cache.repos],
            "bases": self.cache.bases or None,
            "options": self.options,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SandboxFactory:
        """Make a factory from what `to_dict` returned."""
        tables = values.get("specs")
        specs = None if tables is None else [Table(**table) for table in tables]
        return cls(**{**values, "specs": specs, "limits": Limits(**values["limits"])})

    def __reduce__(self) -> tuple[Callable[..., SandboxFactory], tuple[dict[str, Any]]]:
        # Open boxes stay with the process that opened them: a copy starts with none.
        return SandboxFactory.from_dict, (self.to_dict(),)

    def _open_boxes(self) -> int:
        with self._lock:
            return sum(not box.closed for box in self._boxes)

    def __repr__(self) -> str:
        """Return one line: the backend, the cache, how many boxes are open."""
        state = "closed" if self.closed else f"{self._open_boxes()} open"
        return f"SandboxFactory({self.backend!r}, cache={str(self.cache.root)!r}, {state})"

    def _repr_html_(self) -> str:
        facts = {"backend": self.backend, "tier": self.tier, "network": self.network, "cache": self.cache.root,
                 "writes to": self.scratch or "memory", "open sandboxes": self._open_boxes()}  # fmt: skip
        facts |= {f"limit: {name.replace('_', ' ')}": value for name, value in asdict(self.limits).items()}
        return _html.card("SandboxFactory" + (" (closed)" if self.closed else ""), _html.facts(facts))


def _unique_first(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks with one of each repository, commit and spec in front, so that no two wait for one build."""
    first: dict[Any, Task] = {}
    for task in tasks:
        first.setdefault((task.source, task.repo, task.base_commit, str(task.spec)), task)
    ahead = {task.id for task in first.values()}
    return [*first.values(), *(task for task in tasks if task.id not in ahead)]
