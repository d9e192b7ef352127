"""Compat: every patch of another package's internals still finds its name, and is still needed."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from swebench_lab._compat import PATCHES, Patch

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.target)
def test_a_patch_finds_its_name_and_is_still_needed(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(patch.package)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    installed = f"{patch.package} {version(patch.package)} (written for {patch.tested})"
    assert patch.present(), f"{installed} has no {patch.target} of the form that is patched"
    assert patch.needed(), f"{installed} now offers {patch.unnecessary}: drop the patch"
