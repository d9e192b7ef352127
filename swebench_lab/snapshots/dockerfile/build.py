"""Building: the stages of a Dockerfile as layers, one an instruction that changes files, each kept by what goes into it."""

from __future__ import annotations

import functools
import logging
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SandboxError, SnapshotError
from swebench_lab.sandbox.layers.view import View
from swebench_lab.sandbox.users import user_of
from swebench_lab.snapshots.dockerfile import stages, words
from swebench_lab.snapshots.dockerfile.context import Files
from swebench_lab.snapshots.dockerfile.copying import Copy
from swebench_lab.snapshots.dockerfile.running import Run
from swebench_lab.snapshots.dockerfile.stages import Dockerfile, Stage
from swebench_lab.snapshots.dockerfile.syntax import Instruction
from swebench_lab.snapshots.image import oci, plain, registry
from swebench_lab.snapshots.image.new_layer import ROOT, Owner
from swebench_lab.snapshots.image.oci import KIND, Image, facts_of
from swebench_lab.snapshots.storage.store import BuildOnce

log = logging.getLogger(__name__)

VERSION = 1
"""Part of every key; a change of what an instruction does must raise it."""

PROXIES = frozenset(
    name
    for word in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (word, word.upper())
)
"""Build arguments that need no ARG, and do not count as something that goes into a layer."""


@dataclass(frozen=True)
class Settings:
    """How a Dockerfile is built.

    Attributes:
        context: The files that COPY takes.
        root: The cache's folder.
        build_once: Builds a layer where it is not there.
        open_base: The image that a FROM names.
        arguments: Values of ARGs.
        network: Of commands: "none" or "host".
        seconds: That one command may take.
    """

    context: Files
    root: Path
    build_once: BuildOnce
    open_base: Callable[[str], Image]
    arguments: Mapping[str, str]
    network: str = "none"
    seconds: float = 3600.0


@dataclass
class State:
    """An image in the making.

    Attributes:
        image: Its layers.
        env: Variables that it sets.
        declared: Values of the ARGs that its stage has declared.
        seen: What commands see: ARG and ENV, of which the later one counts; in other instructions ENV always does.
        config: Everything else that it says.
        workdir: Where commands run.
        user: Who runs them.
        shell: What shell text is given to.
    """

    image: Image
    env: dict[str, str]
    config: dict[str, Any]
    declared: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    shell: tuple[str, ...] = ("/bin/sh", "-c")

    @property
    def variables(self) -> dict[str, str]:
        """What names mean in an instruction."""
        return {**self.declared, **self.env}


def build(dockerfile: Dockerfile, settings: Settings, target: str = "") -> tuple[Image, list[str]]:
    """Return the image of a Dockerfile's stage, building the layers that are not there yet.

    Args:
        dockerfile: What to build.
        settings: How.
        target: Name or number of the stage; the last one when empty.

    Returns:
        The image; and the keys of layers that other stages needed.

    Raises:
        SnapshotError: An instruction failed; the message names its line.
    """
    builder = _Builder(dockerfile, settings)
    builder.check_arguments()
    state = builder.stage(dockerfile.stage(target))
    stage_keys = {key for other in builder.built.values() for key in other.image.keys} - set(state.image.keys)
    return _image(state, dockerfile.syntax.name), sorted(stage_keys)


def _image(state: State, source: str) -> Image:
    config = {**state.config, "User": state.user, "WorkingDir": state.workdir,
              "Env": [f"{name}={value}" for name, value in state.env.items()], "Shell": list(state.shell)}  # fmt: skip
    digest = _files.digest_of("dockerfile", VERSION, state.image.keys, config)
    return Image(source, digest, state.image.layers, state.image.keys, dict(state.env), (), config)


class _Builder:
    """The stages of one file, each built at most once."""

    def __init__(self, dockerfile: Dockerfile, settings: Settings) -> None:
        self.built: dict[int, State] = {}
        self._file = dockerfile
        self._settings = settings
        self._escape = dockerfile.syntax.escape
        machine = registry.machine()
        ours = {"OS": "linux", "ARCH": machine, "PLATFORM": f"linux/{machine}", "VARIANT": ""}
        self._platform = {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in ours.items()}
        self._global: dict[str, str] = {}
        for instruction in dockerfile.arguments:
            self._argument(instruction, self._global, {**self._platform})

    def check_arguments(self) -> None:
        """Refuse build arguments that no ARG declares."""
        instructions = [*self._file.arguments, *(each for stage in self._file.stages for each in stage.instructions)]
        declared = {
            word.partition("=")[0]
            for each in instructions
            if each.name == "ARG"
            for word in words.split(each.text, self._escape)
        }
        if unknown := set(self._settings.arguments) - declared - PROXIES - set(self._platform):
            raise SnapshotError(
                f"{self._file.syntax.name}: no ARG declares the build argument {min(unknown)!r}; it declares "
                f"{', '.join(sorted(declared)) or 'none'}"
            )

    def stage(self, stage: Stage) -> State:
        """Return what a stage comes to."""
        if stage.number not in self.built:
            state = self._begin(stage)
            for instruction in stage.instructions:
                try:
                    _HANDLERS[instruction.name](self, instruction, state, stage)
                except words.WordError as error:
                    raise self._file.error(instruction, str(error)) from error
                except (SnapshotError, SandboxError) as error:
                    if str(error).startswith(self._file.syntax.name):
                        raise
                    raise self._file.error(instruction, str(error)) from error
            self.built[stage.number] = state
        return self.built[stage.number]

    # --- where a stage begins -----------------------------------------------------------------------------------------

    def _begin(self, stage: Stage) -> State:
        variables = {**self._platform, **self._global}
        platform = words.expand(stage.begins.flag("platform"), variables, self._escape)
        if platform not in ("", self._platform["TARGETPLATFORM"], f"{self._platform['TARGETPLATFORM']}/"):
            raise self._file.error(
                stage.begins, f"--platform={platform}: this machine is {self._platform['TARGETPLATFORM']}"
            )
        try:
            base = words.expand(stage.base, variables, self._escape)
        except words.WordError as error:
            raise self._file.error(stage.begins, str(error)) from error
        if not base:
            raise self._file.error(stage.begins, f"{stage.base!r} comes to nothing; give its ARG a value")
        if (other := self._file.find(base, stage.number)) is not None and not base.isdigit():
            parent = self.stage(other)
            return replace(parent, env=dict(parent.env), config=dict(parent.config), declared={}, seen=dict(parent.env))
        if base == "scratch":
            env = {"PATH": plain.PATH}
            return State(Image("scratch", "", (), (), {}), env, {}, seen=dict(env))
        return self._of_image(stage.begins, base)

    def _of_image(self, instruction: Instruction, name: str) -> State:
        try:
            image = self._settings.open_base(name)
        except SnapshotError as error:
            raise self._file.error(instruction, str(error)) from error
        config = dict(image.config)
        if config.get("OnBuild"):
            raise self._file.error(
                instruction, f"the image {name} has ONBUILD instructions, which are outside the subset"
            )
        user, workdir, shell = config.pop("User", ""), config.pop("WorkingDir", ""), config.pop("Shell", None)
        config.pop("Env", None)
        env = {"PATH": plain.PATH, **image.env}
        return State(image, env, config, {}, dict(env), workdir or "", user or "", tuple(shell or ("/bin/sh", "-c")))

    # --- what only says something -------------------------------------------------------------------------------------

    def _expand(self, text: str, state: State) -> str:
        return words.expand(text, state.variables, self._escape)

    def _argument(self, instruction: Instruction, into: dict[str, str], variables: dict[str, str]) -> None:
        for word in words.split(instruction.text, self._escape):
            name, equals, default = word.partition("=")
            inherited = self._global.get(name, self._platform.get(name))
            value = words.expand(default, {**variables, **into}, self._escape) if equals else inherited
            value = self._settings.arguments.get(name, value)
            if value is not None:
                into[name] = value

    def _arg(self, instruction: Instruction, state: State, stage: Stage) -> None:
        new: dict[str, str] = {}
        self._argument(instruction, new, state.variables)
        state.declared |= new
        state.seen |= new

    def _env(self, instruction: Instruction, state: State, stage: Stage) -> None:
        pairs = stages.pairs(instruction, self._escape)
        new = {self._expand(name, state): self._expand(value, state) for name, value in pairs}
        state.env |= new
        state.seen |= new

    def _label(self, instruction: Instruction, state: State, stage: Stage) -> None:
        pairs = stages.pairs(instruction, self._escape)
        labels = {self._expand(name, state): self._expand(value, state) for name, value in pairs}
        state.config["Labels"] = {**(state.config.get("Labels") or {}), **labels}

    def _user(self, instruction: Instruction, state: State, stage: Stage) -> None:
        state.user = self._expand(instruction.text, state)

    def _shell(self, instruction: Instruction, state: State, stage: Stage) -> None:
        state.shell = instruction.words or ()

    def _command(self, instruction: Instruction, state: State, stage: Stage) -> None:
        argv = list(instruction.words) if instruction.words is not None else [*state.shell, instruction.text]
        if instruction.name == "ENTRYPOINT":
            state.config.pop("Cmd", None)  # it was meant for another one
        state.config["Cmd" if instruction.name == "CMD" else "Entrypoint"] = argv

    def _expose(self, instruction: Instruction, state: State, stage: Stage) -> None:
        ports = [self._expand(word, state) for word in words.split(instruction.text, self._escape)]
        for port in ports:
            if not re.fullmatch(r"\d+(-\d+)?(/(tcp|udp|sctp))?", port):
                raise self._file.error(instruction, f"{port!r} is no port, such as 80 or 53/udp")
        new_ports: dict[str, dict[str, str]] = {port if "/" in port else f"{port}/tcp": {} for port in ports}
        state.config["ExposedPorts"] = {**(state.config.get("ExposedPorts") or {}), **new_ports}

    def _say(self, instruction: Instruction, state: State, stage: Stage) -> None:
        name = {"STOPSIGNAL": "StopSignal", "MAINTAINER": "Author"}[instruction.name]
        state.config[name] = self._expand(instruction.text, state)

    # --- what changes files -------------------------------------------------------------------------------------------

    def _layer(self, state: State, key: str, make: Callable[[Path], Mapping[str, Any]]) -> None:
        """Put one more layer on an image, made where it is not there; one without changes is left out."""
        folder = self._settings.root / KIND / key
        marker, is_new = self._settings.build_once(folder, lambda place: {**make(place), oci.STEP: True})
        log.info("%s: layer %s %s", self._file.syntax.name, key[:12], "built" if is_new else "was there")
        if not marker.get("empty"):
            image = state.image
            state.image = replace(image, layers=(folder / "layer", *image.layers), keys=(key, *image.keys))

    def _workdir(self, instruction: Instruction, state: State, stage: Stage) -> None:
        whole = posixpath.normpath(posixpath.join(state.workdir or "/", self._expand(instruction.text, state)))
        state.workdir = f"/{whole.strip('/')}"
        user = user_of(state.image.layers, state.user)
        places = self._settings.root, self._settings.build_once
        state.image = plain.with_directory(state.image, state.workdir, *places, owner=(user.uid, user.gid))

    def _copy(self, instruction: Instruction, state: State, stage: Stage) -> None:
        *sources, target = [self._expand(text, state) for text in stages.places(instruction)]
        for source in sources:
            if "://" in source or source.startswith("git@"):
                raise self._file.error(instruction, f"{source} is an address: nothing is fetched; copy a local file")
        files, origin = self._files(instruction, stage)
        documents = [(h.name, self._document(h.content, h.expands, state)) for h in instruction.heredocs]
        copy = Copy(files, sources, documents, _absolute(target, state.workdir or "/"), self._owner(instruction, state),
                    self._mode(instruction, state), instruction.name == "ADD")  # fmt: skip
        contents = [origin, sources] if origin else copy.digest()
        facts = (
            copy.destination,
            copy.owner,
            copy.mode,
            copy.unpacks,
            [[n, d.decode("latin-1")] for n, d in documents],
        )
        key = _files.digest_of("copy", VERSION, state.image.keys, contents, *facts, os.geteuid() == 0)
        self._layer(state, key, functools.partial(_copy_layer, copy, state.image.layers))

    def _document(self, text: str, expands: bool, state: State) -> bytes:
        return (stages.expand_document(text, state.variables, self._escape) if expands else text).encode()

    def _files(self, instruction: Instruction, stage: Stage) -> tuple[Files, list[str]]:
        """Where sources are looked for; with the keys of the layers where that is an image."""
        name = instruction.flag("from")
        if not name:
            return self._settings.context, []
        other = self._file.find(name, stage.number)
        if other is not None:
            image = self.stage(other).image
        elif name == "scratch" or name.isdigit():
            raise self._file.error(instruction, f"--from={name}: there is no such stage before it")
        else:
            image = self._of_image(instruction, name).image
        return Files(View(image.layers), None, f"the stage or image {name}"), list(image.keys)

    def _owner(self, instruction: Instruction, state: State) -> Owner | None:
        """To whom copied files belong; None: as their source says."""
        text = self._expand(instruction.flag("chown"), state)
        if not text:
            # The files of a context belong to whoever builds, which is nobody in an image.
            return None if instruction.flag("from") or instruction.name == "ADD" else ROOT
        user = user_of(state.image.layers, text)
        return (user.uid, user.uid) if text.isdigit() else (user.uid, user.gid)

    def _mode(self, instruction: Instruction, state: State) -> int | None:
        text = self._expand(instruction.flag("chmod"), state)
        if text and not re.fullmatch(r"[0-7]{3,4}", text):
            raise self._file.error(instruction, f"--chmod={text} is outside the subset, which has numbers such as 755")
        return int(text, 8) if text else None

    def _run(self, instruction: Instruction, state: State, stage: Stage) -> None:
        proxies = {name: value for name, value in self._settings.arguments.items() if name in PROXIES}
        memory = stages.mounts(instruction)
        for place in memory:
            state.image = plain.with_directory(state.image, place, self._settings.root, self._settings.build_once)
        run = Run(
            self._file.syntax.name, instruction, state.shell, state.image, state.seen, state.workdir or "/", state.user,
            self._settings.network if instruction.flag("network") != "none" else "none", self._settings.seconds,
            memory,
        )  # fmt: skip
        self._layer(state, run.key(VERSION), functools.partial(run.build, proxies))


def _absolute(target: str, workdir: str) -> str:
    """A destination from the root, its slash at the end kept."""
    is_directory = target.endswith("/") or posixpath.basename(target) in (".", "..")
    whole = posixpath.normpath(posixpath.join(workdir, target))
    whole = f"/{whole.strip('/')}"
    return f"{whole.rstrip('/')}/" if is_directory else whole


def _copy_layer(copy: Copy, below: tuple[Path, ...], folder: Path) -> dict[str, Any]:
    folder.chmod(0o700)
    copy.write(folder / "layer", View(below))
    return facts_of(folder)


_HANDLERS: Mapping[str, Callable[[_Builder, Instruction, State, Stage], None]] = {
    "ARG": _Builder._arg, "ENV": _Builder._env, "LABEL": _Builder._label, "USER": _Builder._user,
    "SHELL": _Builder._shell, "CMD": _Builder._command, "ENTRYPOINT": _Builder._command, "EXPOSE": _Builder._expose,
    "STOPSIGNAL": _Builder._say, "MAINTAINER": _Builder._say, "WORKDIR": _Builder._workdir, "COPY": _Builder._copy,
    "ADD": _Builder._copy, "RUN": _Builder._run,
}  # fmt: skip
