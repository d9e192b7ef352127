"""Recipe: a Dockerfile with all that its build takes, read and checked; and the Snapshot that it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.dockerfile import build, stages, syntax
from swebench_lab.snapshots.dockerfile.context import Files
from swebench_lab.snapshots.image import plain, rootfs
from swebench_lab.snapshots.image.oci import Image
from swebench_lab.snapshots.storage.store import BuildOnce

_PREFIXES = ("engine:", "docker://", "/", "./", "../")


@dataclass(frozen=True)
class Recipe:
    """What a build takes.

    Attributes:
        path: The Dockerfile.
        context: The folder whose files COPY takes; the Dockerfile's own when None.
        target: Name or number of the stage; the last one when empty.
        args: Values of ARGs.
        bases: Where the images that FROM and `COPY --from` name are found: name as it is written there → an archive, an
            OCI layout, `engine:NAME`, `docker://NAME`, or a folder or tar with a root file system.
        images: Where other images are found: "engine", "registry", a folder of archives called as the image with `/`
            and `:` replaced by `__`; or empty.
        network: Of RUN: "none" or "host".
        seconds: That one RUN may take.
    """

    path: Path
    context: Path | None = None
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str | Path] = field(default_factory=dict)
    images: str = ""
    network: str = "none"
    seconds: float = 3600.0

    def read(self) -> stages.Dockerfile:
        """Return the Dockerfile, checked; nothing is built.

        Raises:
            SnapshotError: It cannot be read, is wrong, or holds something outside the subset; the message names it.
        """
        try:
            text = self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SnapshotError(f"reading the Dockerfile {self.path}: {error}") from error
        return stages.check(syntax.read(text, self.path.name))

    def snapshot(
        self, root: Path, build_once: BuildOnce, *, workdir: str | None, env: Mapping[str, str] | None, user: str | None
    ) -> Snapshot:  # fmt: skip
        """Return the Snapshot, building what of it is not there.

        Args:
            root: The cache's folder.
            build_once: Builds a layer where it is not there.
            workdir: Where commands run, instead of what the Dockerfile says.
            env: Variables on top of its own.
            user: Who runs commands, instead of whom it says.

        Raises:
            SnapshotError: As `read`; or a base cannot be had, or an instruction failed.
        """
        if self.network not in ("none", "host"):
            raise ValueError(f"unknown network {self.network!r}; known are 'none' and 'host'")
        dockerfile = self.read()
        folder = self.context or self.path.parent
        if not folder.is_dir():
            raise SnapshotError(f"building {self.path}: the build context {folder} is no folder")
        sources: dict[str, str] = {}

        def open_base(name: str) -> Image:
            sources[name] = self._source(name)
            return rootfs.open_source(sources[name], root, build_once)

        context = Files.of_context(folder, self.path)
        settings = build.Settings(context, root, build_once, open_base, dict(self.args), self.network, self.seconds)
        image, others = build.build(dockerfile, settings, self.target)
        further = {"bases": sources, "stage_layers": others, "source": str(self.path)}
        return plain.assemble(image, root, build_once, workdir=workdir, env=env, user=user, further=further)

    def _source(self, name: str) -> str:
        """Where an image is found.

        Raises:
            SnapshotError: Nothing says it.
        """
        if name in self.bases:
            return str(self.bases[name])
        if name.startswith(_PREFIXES):
            return str(self.path.parent / name) if name.startswith(".") else name
        if self.images in ("engine", "registry"):
            return f"{'engine:' if self.images == 'engine' else 'docker://'}{name}"
        if self.images:
            return str(Path(self.images).expanduser() / f"{name.replace('/', '__').replace(':', '__')}.tar")
        raise SnapshotError(
            f"nothing says where the image {name} is found: give bases={{{name!r}: …}} (an archive, an OCI layout, a folder or "
            "tar with a root file system, engine:NAME or docker://NAME), or SnapshotCache(images='registry')"
        )
