"""The stages of a Dockerfile, every instruction checked: what is outside the subset is refused by name before a build."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.dockerfile import words
from swebench_lab.snapshots.dockerfile.syntax import Instruction, Syntax, error_at

SUBSET = (
    "FROM", "ARG", "ENV", "WORKDIR", "COPY", "ADD", "RUN", "SHELL", "USER", "LABEL", "CMD", "ENTRYPOINT", "EXPOSE",
    "STOPSIGNAL", "MAINTAINER",
)  # fmt: skip
"""The instructions that are understood."""

_OUTSIDE = {
    "ONBUILD": "what it plants would run in other builds",
    "HEALTHCHECK": "nobody asks a box how it is",
    "VOLUME": "a box has no volumes",
}
_FLAGS = {
    "FROM": {"platform"}, "COPY": {"from", "chown", "chmod"}, "ADD": {"chown", "chmod"}, "RUN": {"network", "mount"},
}  # fmt: skip
_REMOTE = re.compile(r"^([a-z][a-z0-9+.-]*://|git@)", re.IGNORECASE)
_EXPANDED = ("ADD", "COPY", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "WORKDIR", "ARG", "FROM", "MAINTAINER")
_MODE = re.compile(r"^[0-7]{3,4}$")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        number: Counted from 0.
        base: What `FROM` names, its variables not replaced.
        name: What `AS` calls it, in small letters; empty without.
        begins: Its FROM.
        instructions: What follows.
    """

    number: int
    base: str
    name: str
    begins: Instruction
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile that can be built here.

    Attributes:
        syntax: The text it was read from.
        arguments: The ARG instructions before the first FROM.
        stages: In order.
    """

    syntax: Syntax
    arguments: tuple[Instruction, ...]
    stages: tuple[Stage, ...]

    def stage(self, target: str) -> Stage:
        """Return a stage by its name or number; the last one where the target is empty.

        Raises:
            SnapshotError: There is none.
        """
        result = self.find(target, len(self.stages)) if target else self.stages[-1]
        if result is None:
            names = ", ".join(stage.name or str(stage.number) for stage in self.stages)
            raise SnapshotError(f"{self.syntax.name}: there is no stage {target!r}; its stages are {names}")
        return result

    def find(self, name: str, before: int) -> Stage | None:
        """Return the last stage of a name (or number) before a place; None where there is none."""
        matching = [s for s in self.stages[:before] if name.lower() == s.name or name == str(s.number)]
        return matching[-1] if matching else None

    def error(self, instruction: Instruction, problem: str) -> SnapshotError:
        """Return the error of an instruction."""
        return error_at(self.syntax.name, instruction.line, f"{instruction.name}: {problem}")


def check(syntax: Syntax) -> Dockerfile:
    """Return the stages of a Dockerfile.

    Raises:
        SnapshotError: Something in it is wrong, or is outside the subset; the message names it and its line.
    """
    for instruction in syntax.instructions:
        _check(syntax, instruction)
    first = next((at for at, each in enumerate(syntax.instructions) if each.name == "FROM"), None)
    if first is None:
        raise SnapshotError(f"{syntax.name}: it has no FROM, so there is nothing to build on")
    for instruction in syntax.instructions[:first]:
        if instruction.name != "ARG":
            raise error_at(syntax.name, instruction.line, f"{instruction.name} before the first FROM; only ARG may be")
    stages: list[Stage] = []
    for instruction in syntax.instructions[first:]:
        if instruction.name == "FROM":
            base, name = _from(syntax, instruction)
            stages.append(Stage(len(stages), base, name, instruction, ()))
        else:
            last = stages[-1]
            stages[-1] = Stage(last.number, last.base, last.name, last.begins, (*last.instructions, instruction))
    return Dockerfile(syntax, syntax.instructions[:first], tuple(stages))


def _from(syntax: Syntax, instruction: Instruction) -> tuple[str, str]:
    parts = instruction.text.split()
    if len(parts) == 3 and parts[1].lower() == "as":
        if not re.fullmatch(r"[a-z][a-z0-9-_.]*", parts[2].lower()):
            raise error_at(syntax.name, instruction.line, f"FROM: {parts[2]!r} cannot be the name of a stage")
        return parts[0], parts[2].lower()
    if len(parts) != 1:
        raise error_at(syntax.name, instruction.line, "FROM takes an image, or `image AS name`")
    return parts[0], ""


def _check(syntax: Syntax, instruction: Instruction) -> None:
    def refuse(problem: str) -> SnapshotError:
        return error_at(syntax.name, instruction.line, problem)

    name = instruction.name
    if name in _OUTSIDE:
        raise refuse(f"{name} is outside the subset that is built here: {_OUTSIDE[name]}")
    if name not in SUBSET:
        raise refuse(f"{name} is no instruction that is known here; known are {', '.join(SUBSET)}")
    if not instruction.text and not instruction.heredocs:
        raise refuse(f"{name} needs an argument")
    for flag, value in instruction.flags:
        if flag not in _FLAGS.get(name, ()):
            raise refuse(f"{name} --{flag} is outside the subset that is built here")
        if not value:
            raise refuse(f"{name} --{flag} needs a value")
    if (checker := _CHECKERS.get(name)) is not None:
        checker(instruction, refuse)
    if name in _EXPANDED:
        try:
            for text in (instruction.text, *(value for _, value in instruction.flags)):
                words.expand(text, {}, syntax.escape, strict=False)
            for heredoc in instruction.heredocs:
                if heredoc.expands:
                    expand_document(heredoc.content, {}, syntax.escape)
        except words.WordError as error:
            raise refuse(f"{name}: {error}") from None


Refuse = Callable[[str], SnapshotError]


def _check_run(instruction: Instruction, refuse: Refuse) -> None:
    try:
        mounts(instruction)
    except words.WordError as error:
        raise refuse(f"RUN --mount={error}") from None
    if instruction.flag("network") not in ("", "none", "default"):
        raise refuse(
            f"RUN --network={instruction.flag('network')} is outside the subset; whoever builds chooses the network"
        )
    if instruction.heredocs and instruction.words is not None:
        raise refuse("RUN in its JSON form has no here-documents")


def _check_copy(instruction: Instruction, refuse: Refuse) -> None:
    name, sources = instruction.name, places(instruction)
    if len(sources) < 2 and not (sources and instruction.heredocs):
        raise refuse(f"{name} needs a source and a destination")
    for source in sources[:-1]:
        if _REMOTE.match(source):
            raise refuse(f"{name} {source} is outside the subset: nothing is fetched from addresses; copy a local file")
    mode = instruction.flag("chmod")
    if mode and "$" not in mode and not _MODE.match(mode):
        raise refuse(f"{name} --chmod={mode} is outside the subset, which has numbers such as 755")
    if "$" in instruction.flag("from"):
        raise refuse(f"{name} --from={instruction.flag('from')}: variables are not replaced there")
    if instruction.heredocs and instruction.flag("from"):
        raise refuse(f"{name} with a here-document and --from")


def _check_shell(instruction: Instruction, refuse: Refuse) -> None:
    if not instruction.words:
        raise refuse('SHELL takes the JSON form, such as ["/bin/bash", "-c"]')


def _check_environment(instruction: Instruction, refuse: Refuse) -> None:
    try:
        pairs(instruction, "\\")
    except words.WordError as error:
        raise refuse(f"{instruction.name}: {error}") from None


def _check_argument(instruction: Instruction, refuse: Refuse) -> None:
    for word in words.split(instruction.text):
        if not re.fullmatch(r"[A-Za-z_][\w.-]*(=.*)?", word, re.DOTALL):
            raise refuse(f"ARG: {word!r} is no name")


_CHECKERS: Mapping[str, Callable[[Instruction, Refuse], None]] = {
    "RUN": _check_run, "COPY": _check_copy, "ADD": _check_copy, "SHELL": _check_shell, "ENV": _check_environment,
    "LABEL": _check_environment, "ARG": _check_argument,
}  # fmt: skip


def places(instruction: Instruction) -> Sequence[str]:
    """Return the sources and the destination of COPY or ADD, here-documents left out, their variables not replaced."""
    if instruction.words is not None:
        return instruction.words
    return [word for word in instruction.text.split() if not re.match(r"^\d*<<-?['\"]?[A-Za-z_]", word)]


def mounts(instruction: Instruction) -> dict[str, int]:
    """Return the directories of `RUN --mount=type=cache` and `type=tmpfs`, from the root, with their modes.

    A cache is empty here each time, as it may be everywhere.

    Raises:
        WordError: Something else is to be mounted.
    """
    places: dict[str, int] = {}
    for text in (value for flag, value in instruction.flags if flag == "mount"):
        options = {"type": "bind"} | dict(part.partition("=")[::2] for part in text.split(","))
        target = next((options[name] for name in ("target", "dst", "destination") if name in options), "")
        mode = options.get("mode", "755" if options["type"] == "cache" else "1777")
        further = set(options) - {
            "type",
            "target",
            "dst",
            "destination",
            "mode",
            "id",
            "sharing",
            "size",
            "rw",
            "readwrite",
        }
        if options["type"] not in ("cache", "tmpfs") or further or "$" in text:
            raise words.WordError(f"{text} is outside the subset, which has type=cache and type=tmpfs with a target")
        if not target.startswith("/") or not _MODE.match(mode):
            raise words.WordError(f"{text} needs an absolute target and a mode such as 755")
        places[target] = int(mode, 8)
    return places


def pairs(instruction: Instruction, escape: str) -> list[tuple[str, str]]:
    """Return the names and values of ENV or LABEL, quotes and variables still in them.

    Raises:
        WordError: A name has no value.
    """
    parts = words.split(instruction.text, escape)
    if "=" not in parts[0]:
        name, *rest = instruction.text.split(None, 1)
        if not rest:
            raise words.WordError(f"{name} has no value; write {name}=value")
        return [(name, rest[0])]
    for part in parts:
        if "=" not in part or part.startswith("="):
            raise words.WordError(f"{part!r} is no pair NAME=value")
    return [(name, value) for name, _, value in (part.partition("=") for part in parts)]


def expand_document(text: str, variables: Mapping[str, str], escape: str) -> str:
    """Return a here-document with its variables replaced; quotes are part of it."""
    result, at = "", 0
    for match in re.finditer(rf"{re.escape(escape)}(.)|\$\{{[^}}]*\}}|\$[A-Za-z_][A-Za-z0-9_]*", text, re.DOTALL):
        result += text[at : match.start()]
        if match[1] is not None:
            result += match[1] if match[1] in ("$", escape) else match[0]
        else:
            result += words.expand(match[0], variables, escape, strict=False)
        at = match.end()
    return result + text[at:]
