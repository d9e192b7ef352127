"""Errors: picklable with all they hold, converted in one place, and worded the same wherever they happen."""

from __future__ import annotations

import errno
import inspect
import pickle
from contextlib import AbstractContextManager

import pytest

from swebench_lab import errors
from swebench_lab.errors import LabError

PUBLIC = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LabError)]
ARGUMENTS = {
    "QuotaExceeded": (("disk", "building a venv: 5 of 4 GiB; remove some"), {}),
    "FormatError": (("no call in the reply", "missing"), {"line": "3"}),
}


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_error_survives_a_pickle_with_its_message_and_attributes(kind: type[LabError]) -> None:
    given, named = ARGUMENTS.get(kind.__name__, (("doing this to that: try the other",), {}))
    error = kind(*given, **named)
    error.add_note("seen on node 3")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert str(error)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    assert drawn | {"LabError"} == {kind.__name__ for kind in PUBLIC}


def _asking() -> AbstractContextManager[None]:
    return errors.boundary(errors.PolicyError, "asking it")


def test_a_boundary_converts_what_is_foreign_and_passes_what_is_not() -> None:
    with pytest.raises(errors.PolicyError, match=r"^asking it: KeyError: 'choices' \(") as caught, _asking():
        raise KeyError("choices")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(errors.SandboxClosed, match=r"^gone$"), _asking():
        raise errors.SandboxClosed("gone")
    with pytest.raises(KeyboardInterrupt), _asking():
        raise KeyboardInterrupt


def test_a_foreign_error_names_its_type_and_where_it_arose_and_our_own_speak_for_themselves() -> None:
    def broken() -> float:
        return 1 / 0

    error = errors.outcome_of(broken)
    assert isinstance(error, ZeroDivisionError)
    line = broken.__code__.co_firstlineno + 1
    text = errors.describe(error)
    assert text.startswith("ZeroDivisionError: division by zero (errors.py:")
    assert text.endswith(f", test_errors.py:{line} in broken)")
    assert errors.describe(errors.GradingError("grading a: the box died")) == "grading a: the box died"
    assert errors.describe(errors.GradingError()) == "GradingError"
    assert errors.outcome_of(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (errors.SandboxClosed("gone"), True),
        (errors.SandboxPathError("no such file"), False),
        (errors.QuotaExceeded("disk", "full"), False),
        (MemoryError(), True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.ENOENT, "none"), False),
        (ValueError("x"), False),
        (errors.PolicyError("down"), False),
    ],
)
def test_only_infrastructure_errors_that_may_pass_are_transient_on_either_side_of_a_boundary(
    error: Exception, transient: bool
) -> None:
    assert errors.is_transient(error) is transient
    with pytest.raises(LabError) as caught, errors.boundary(errors.AgentError, "calling a tool"):
        raise error
    assert errors.is_transient(caught.value) is transient


@pytest.mark.parametrize("ending", [ValueError, KeyboardInterrupt, None])
def test_what_was_begun_is_closed_exactly_when_its_making_fails(ending: type[BaseException] | None) -> None:
    closed: list[int] = []

    def make() -> None:
        with errors.closing_on_error(lambda: closed.append(1)):
            if ending:
                raise ending

    if ending:
        with pytest.raises(ending):
            make()
    else:
        make()
    assert closed == [1] * bool(ending)
