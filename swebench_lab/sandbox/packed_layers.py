"""Packed layers: a folder of checkpoints as files that outlive their store, each named by its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.checkpoints import Layer, LayerStore, passing_store

SUFFIX = ".tar.gz"


class StepState(Protocol):
    """What is known of a box after one step of an attempt."""

    @property
    def layer(self) -> str:
        """Digest of what the step changed; empty when it was not kept."""

    @property
    def cwd(self) -> str:
        """Where the box's session stood."""

    @property
    def env(self) -> Mapping[str, str]:
        """The variables of the box's session."""


class PackedLayers:
    """A folder of packed layers.

    Args:
        folder: Where they are; it need not exist as long as none is read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, digest: str) -> Path:
        """Return where a layer is, or would be."""
        return self.folder / f"{digest}{SUFFIX}"

    def unpack(
        self, steps: Sequence[StepState], doing: str, have: Sequence[Layer] = (), store: LayerStore | None = None
    ) -> list[Layer]:
        """Return the layers of an attempt's steps, oldest first, as a box is opened with them.

        Args:
            steps: The steps, from the first one on; the layer of each was kept.
            doing: What they are wanted for, for errors.
            have: The first of these layers, from an earlier call; they are not unpacked again.
            store: Where they are unpacked; a folder that goes with this process when not given.

        Raises:
            SandboxError: A layer is missing or damaged.
        """
        store = store or passing_store()
        layers = list(have[: len(steps)])
        for step in steps[len(layers) :]:
            file = self.path(step.layer)
            if not file.is_file():
                raise SandboxError(f"{doing}: the layer {file} is missing")
            below = [layer.digest for layer in layers]
            with file.open("rb") as archive:
                layer = store.make("unpack", [archive.fileno()], parents=below, cwd=step.cwd, env=step.env)
            if layer.digest != step.layer:
                raise SandboxError(f"{doing}: the layer {file} is damaged")
            layers.append(layer)
        return layers

    def __repr__(self) -> str:
        return f"PackedLayers({str(self.folder)!r})"
