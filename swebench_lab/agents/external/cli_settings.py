"""CLISettings: everything that changes what an attempt of a command-line agent does, as one frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from swebench_lab.agents.external.kits import Kit, kit_named
from swebench_lab.policies.policy import Policy

PROMPT = """\
The repository in {{workdir}} has the problem described below. Change its source files so that the problem is solved; do \
not change tests. There is no network. Stop when the work is done.

{{issue}}
"""


@dataclass(frozen=True)
class CLISettings:
    """The fields of a CLIAgent, whose docstring says what each means.

    Raises:
        ValueError: A limit is not positive, or the kit is unknown.
    """

    kit: str | Kit
    policy: Policy
    _: KW_ONLY
    version: str = ""
    max_steps: int = 100
    wall_time: float = 1800.0
    max_tokens: int | None = None
    max_cost: float | None = None
    prompt: str = PROMPT
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    submit_on_limit: bool = True
    keep_layers: bool = True

    def __post_init__(self) -> None:
        for name, value in self.limits().items():
            if value is not None and value <= 0:
                raise ValueError(f"making a CLIAgent: {name}={value!r} must be positive")
        _ = self.resolved_kit  # an unknown name is an error now, not at the first attempt

    @property
    def resolved_kit(self) -> Kit:
        """The kit itself, where it was given by name."""
        return kit_named(self.kit) if isinstance(self.kit, str) else self.kit

    def limits(self) -> dict[str, float | None]:
        """Return the limits by name."""
        return {
            "max_steps": self.max_steps,
            "wall_time": self.wall_time,
            "max_tokens": self.max_tokens,
            "max_cost": self.max_cost,
        }

    @property
    def fingerprint(self) -> str:
        """A stable hash over all that changes an attempt: the kit, the version, prompt, limits and the policy's own."""
        kit = self.resolved_kit
        parts = {
            "kit": kit.identity(),
            "version": self.version or kit.version,
            "prompt": self.prompt,
            "arguments": list(self.arguments),
            "env": dict(self.env),
            "limits": self.limits(),
            "submit_on_limit": self.submit_on_limit,
            "policy": self.policy.fingerprint,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
