"""Every error this package raises, one type per boundary crossed.

```
LabError
├── TaskError            a task row or file is wrong (file, row, field)          also a ValueError
├── SnapshotError        the read-only tree of a task could not be built         also a RuntimeError
├── SandboxError         a box could not be made, or died                        also a RuntimeError
│   ├── SandboxUnavailable   this machine cannot make such boxes; says what to do
│   ├── SandboxClosed        the box was closed, or its init is gone
│   ├── SandboxPathError     a path leaves the box or is not what was asked for
│   ├── PatchError           what a box did to itself cannot be told as a patch
│   └── QuotaExceeded        this user has as much as the machine's administrator allows
├── PolicyError          the policy could not answer                             also a RuntimeError
│   └── ContextFull          the conversation no longer fits the policy's context
├── ServingError         a model server did not start, or is gone                also a RuntimeError
├── FormatError          a reply holds no well-formed call                       also a ValueError
├── ConfigError          a configuration of another program's agent is wrong      also a ValueError
├── GradingError         a fault of ours while grading: "not graded"             also a RuntimeError
├── RecordError          a stored row cannot be read back                        also a ValueError
├── RecipeError          an unknown recipe, or a wrong parameter of one          also a ValueError
├── RecipeFailed         a recipe's notebook raised, or its kernel died          also a RuntimeError
├── SweepError           a sweep's grid, folder or metric is wrong               also a ValueError
└── TrainingError        training could not go on                                also a RuntimeError
```

Three rules hold everywhere. A message says what was being done, to what, and what to do next. Code of users
(rewards, policies, tools) raises plain Python errors. A failed attempt is a record, never a crash of the run and
never a silent zero: one place, the collector's attempt, turns errors into records.
"""

from __future__ import annotations


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
    """What a living sandbox did to its own files or processes keeps its changes from being told as a patch."""


class QuotaExceeded(SandboxError):
    """This user has as many sandboxes, or as much on the disk, as the machine's administrator allows one user.

    Args:
        what: Which quota: `sandboxes` or `disk`.
        doing: What was being done, what is used, and what to do next.
    """

    def __init__(self, what: str, doing: str) -> None:
        super().__init__(f"quota of {what} exceeded: {doing}")
        self.what = what


class PolicyError(LabError, RuntimeError):
    """The policy could not answer: the endpoint failed, the script ran out, the model broke."""


class ContextFull(PolicyError):
    """The conversation no longer fits what the policy can read; the attempt ends as `max_tokens`."""


class ServingError(LabError, RuntimeError):
    """A model server did not start, stopped by itself, or cannot do what it is asked; shows the end of its log."""


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
    """Grading failed through a fault of ours; the attempt becomes *not graded*, never reward 0."""


class RecordError(LabError, ValueError):
    """A stored row cannot be read back; the message names the file and the line."""


class RecipeError(LabError, ValueError):
    """A recipe is unknown, or one of its parameters is unknown or of the wrong type."""


class RecipeFailed(LabError, RuntimeError):
    """A recipe's notebook raised an error or lost its kernel; names the cell, its line and the notebook kept."""


class SweepError(LabError, ValueError):
    """A sweep's grid, baseline, metric or folder is wrong, or does not fit what the folder holds."""


class TrainingError(LabError, RuntimeError):
    """Training could not go on."""
