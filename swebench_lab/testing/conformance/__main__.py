"""Tries a backend from the command line: `python -m swebench_lab.testing.conformance BACKEND [--group G] [--lacks F]`."""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from swebench_lab.sandbox.capabilities import CAPABILITIES
from swebench_lab.testing.conformance.catalogue import run
from swebench_lab.testing.conformance.kit import GROUPS

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the behaviours, print one line for each and one that counts; returns how many failed, at most 99."""
    parser = argparse.ArgumentParser(prog="python -m swebench_lab.testing.conformance", description=__doc__)
    parser.add_argument(
        "backend", nargs="?", default="namespace", help="a backend's name, or MODULE:NAME of a Backend or a function"
    )
    parser.add_argument("--group", action="append", choices=GROUPS, help="only this group; may be repeated")
    parser.add_argument("--lacks", action="append", choices=list(CAPABILITIES), help="a capability it does not have")
    options = parser.parse_args(arguments)
    try:
        opener = _opener(options.backend)
    except (ImportError, AttributeError, ValueError) as error:
        parser.error(f"no backend is called {options.backend!r} ({error}); give a name, or MODULE:NAME")
    successes = failures = left_out = 0
    for outcome in run(opener, options.group or GROUPS, options.lacks):
        _say(str(outcome))
        successes, failures, left_out = (
            successes + outcome.passed,
            failures + outcome.failed,
            left_out + bool(outcome.lacking),
        )
    _say(f"{options.backend}: {successes} shown, {failures} FAILED, {left_out} not tried, for what it lacks")
    return min(failures, 99)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _opener(name: str) -> Callable[..., Any]:
    """The function that opens boxes of a backend."""
    from swebench_lab.sandbox.limits import Limits
    from swebench_lab.snapshots.backends import Backend, Opening, backend_named

    if ":" in name and not isinstance(custom := pkgutil.resolve_name(name), Backend):
        function: Callable[..., Any] = custom
        return function
    backend_named(name, {})

    def opener(snapshot: Snapshot, **keywords: Any) -> Sandbox:
        opening: Opening = {
            "user": None,
            "layers": keywords.pop("layers", ()),
            "limits": keywords.pop("limits", None) or Limits(),
            "scratch": keywords.pop("scratch", None),
            "store": keywords.pop("store", None),
            "network": keywords.pop("network", "none"),
            "env": keywords.pop("env", None) or {},
        }
        return backend_named(name, keywords).open(snapshot, opening, keywords)

    return opener


if __name__ == "__main__":
    sys.exit(main())
