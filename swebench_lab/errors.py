"""Every error this package raises, one type per boundary crossed.

```
LabError
├── TaskError            a task row or file is wrong (file, row, field)          also a ValueError
├── SnapshotError        the read-only tree of a task could not be built         also a RuntimeError
├── SandboxError         a box could not be made, or died                        also a RuntimeError
│   ├── SandboxUnavailable   this machine cannot make such boxes; says what to do
│   ├── SandboxClosed        the box was closed, or its init is gone
│   ├── SandboxPathError     a path leaves the box or is not what was asked for
│   ├── PatchError           what a box did to itself cannot be expressed as a patch
│   └── QuotaExceeded        this user has as much as the machine's administrator allows
├── PolicyError          the policy could not answer                             also a RuntimeError
│   └── ContextFull          the conversation no longer fits the policy's context
├── ServingError         a model server did not start, or is gone                also a RuntimeError
├── AgentError           a tool, setup, prompt or history processor broke         also a RuntimeError
├── FormatError          a reply holds no well-formed call                       also a ValueError
├── ConfigError          a configuration of another program's agent is wrong      also a ValueError
├── GradingError         infrastructure failed while grading: "not graded"       also a RuntimeError
├── RecordError          a stored row cannot be read back                        also a ValueError
│   └── DiffError            a text is not a diff that can be read or reversed
├── RecipeError          an unknown recipe, or a wrong parameter of one          also a ValueError
├── RecipeFailed         a recipe's notebook raised, or its kernel died          also a RuntimeError
├── SweepError           a sweep's grid, folder or metric is wrong               also a ValueError
└── TrainingError        training could not go on                                also a RuntimeError
```

Three rules hold everywhere. A message says what was being done, to what, and what to do next. Code of users
(rewards, policies, tools) raises plain Python errors; `boundary` turns what crosses one of the lines above into an
error of this package, keeping the original as its cause. A failed attempt is a record, never a crash of the run and
never a silent zero: whoever writes such a record runs the work through `outcome_of` (the agent's loop has its own
handler, which ends the attempt) and words the error with `describe`, so that one error reads the same wherever it
happened.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN)
"""Error numbers that say that the machine ran out of something."""

_FRAMES = 2
"""Innermost frames of a foreign error that its description names."""


class LabError(Exception):
    """Root of every error raised by this package."""


class TaskError(LabError, ValueError):
    """A task row or file is wrong; the message names the file, the row and the field."""


class SnapshotError(LabError, RuntimeError):
    """The read-only tree a task starts from could not be built or loaded."""


class SandboxError(LabError, RuntimeError):
    """A sandbox could not be made, or died while in use."""


class SandboxUnavailable(SandboxError):
    """This machine cannot make this kind of sandbox; the message says what is missing and what to do."""


class SandboxClosed(SandboxError):
    """The sandbox was used after `close()`, or its first process is gone."""


class SandboxPathError(SandboxError):
    """A path leaves the sandbox, does not exist, or is not the kind of file that was asked for."""


class PatchError(SandboxError):
    """What a living sandbox did to its own files or processes keeps its changes from being expressed as a patch."""


class QuotaExceeded(SandboxError):
    """This user has as many sandboxes, or as much on the disk, as the machine's administrator allows one user.

    Args:
        what: Which quota: `sandboxes` or `disk`.
        doing: What was being done, what is used, and what to do next.
    """

    def __init__(self, what: str, doing: str) -> None:
        super().__init__(f"quota of {what} exceeded: {doing}")
        self.what = what
        self.doing = doing

    def __reduce__(self) -> tuple[type[QuotaExceeded], tuple[str, str], dict[str, object]]:
        """Pickle by the two arguments: the base class would call it with the finished message alone."""
        return type(self), (self.what, self.doing), dict(vars(self))


class PolicyError(LabError, RuntimeError):
    """The policy could not answer: the endpoint failed, the script ran out, the model broke."""


class ContextFull(PolicyError):
    """The conversation no longer fits what the policy can read; the attempt ends as `max_tokens`."""


class ServingError(LabError, RuntimeError):
    """A model server did not start, stopped by itself, or cannot do what it is asked; shows the end of its log."""


class AgentError(LabError, RuntimeError):
    """Code of an agent broke: a tool, its setup, a history processor or a prompt; names which and where."""


class FormatError(LabError, ValueError):
    """A reply holds no well-formed call; its text is what the policy is shown instead of an observation.

    Args:
        message: What is wrong.
        code: Kind of mistake, for prompts that word each in their own way: `missing`, `multiple`, `syntax`, …
        **facts: What such prompts may quote.
    """

    def __init__(self, message: str = "", code: str = "", **facts: str) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


class ConfigError(LabError, ValueError):
    """Another program's configuration cannot be taken over; names the file, the option and what to do instead."""


class GradingError(LabError, RuntimeError):
    """An infrastructure error kept a patch from being graded; the attempt becomes *not graded*, never reward 0."""


class RecordError(LabError, ValueError):
    """A stored row cannot be read back; the message names the file and the line."""


class DiffError(RecordError):
    """A text is not a diff, is cut short, or holds a part that cannot be read or reversed; names the line."""


class RecipeError(LabError, ValueError):
    """A recipe is unknown, or one of its parameters is unknown or of the wrong type."""


class RecipeFailed(LabError, RuntimeError):
    """A recipe's notebook raised an error or lost its kernel; names the cell, its line and the notebook kept."""


class SweepError(LabError, ValueError):
    """A sweep's grid, baseline, metric or folder is wrong, or does not fit what the folder holds."""


class TrainingError(LabError, RuntimeError):
    """Training could not go on."""


@contextmanager
def boundary(kind: type[LabError], doing: str) -> Iterator[None]:
    """Turn foreign exceptions that leave the block into errors of this package; those it has already pass unchanged.

    Args:
        kind: The error of the boundary that the block crosses.
        doing: What the block does, to what; the message begins with it.

    Raises:
        LabError: One of type `kind`, with the foreign exception as its cause.
    """
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # code of others raises what it likes
        raise kind(f"{doing}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Return an error as records and messages show it.

    Errors of this package say themselves what was being done. Others need their type, and where they arose: the
    innermost frames, caller first.
    """
    if isinstance(error, LabError) and str(error):
        return str(error)
    places, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{what} ({', '.join(places[-_FRAMES:])})" if places else what


def outcome_of(work: Callable[[], _Result]) -> _Result | Exception:
    """Run `work` and return its result, or the exception that it raised: the boundary at which errors become records.

    Only a caller that makes a record of the exception, or logs it, may use this.
    """
    try:
        return work()
    except Exception as error:  # the recording boundary: the caller records or logs it
        return error


def is_transient(error: BaseException) -> bool:
    """Say whether an error is one of the infrastructure that a retry may cure: a dead box, an exhausted machine."""
    if isinstance(error, SandboxError):
        return not isinstance(error, SandboxPathError | SandboxUnavailable | QuotaExceeded)
    if isinstance(error, PolicyError | AgentError) and error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED)


@contextmanager
def closing_on_error(close: Callable[[], object]) -> Iterator[None]:
    """Call `close` if the block does not finish, whatever ends it, an interrupt included."""
    with ExitStack() as stack:
        stack.callback(close)
        yield
        stack.pop_all()


def shortly(value: object) -> str:
    """Return a value as an error's message shows it: its type, and the beginning of what it is."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
