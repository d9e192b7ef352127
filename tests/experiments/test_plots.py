"""Figures: returned and never shown, true to the numbers, and drawn from anything a collection may hold."""

from __future__ import annotations

import subprocess
import sys

import pytest

from swebench_lab.experiments import plots
from swebench_lab.records.rollout import Rollouts
from tests.samples import a_rollout, some_rollouts


def png(figure: plots.Figure) -> bytes:
    drawn = figure._repr_png_()
    assert drawn.startswith(b"\x89PNG") and len(drawn) > 3000
    return drawn


def texts(figure: plots.Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_outcomes_shows_the_counts_and_the_rate_with_its_interval() -> None:
    mixed = some_rollouts(tasks=6, attempts=2)
    figure = plots.outcomes(mixed=mixed, empty=Rollouts())
    png(figure)
    assert {"6", "5", "1", "mixed", "empty", "resolved", "not graded"} <= set(texts(figure))
    estimate = mixed.pass_at(1)
    assert any(f"{estimate:.0%}" in text and f"{estimate.low:.0%}" in text for text in texts(figure))
    assert "  no graded attempt" in texts(figure)


def test_resolved_by_repo_has_a_row_for_each_repository() -> None:
    figure = plots.resolved_by_repo(first=some_rollouts(), second=some_rollouts("teacher"))
    png(figure)
    assert {"demo/rulepath", "demo/textgrid", "demo/unitwise", "first", "second"} <= set(texts(figure))


@pytest.mark.parametrize("draw", [plots.steps, plots.timeline])
@pytest.mark.parametrize("collection", [some_rollouts(), Rollouts(), Rollouts([a_rollout("not graded", steps=())])])
def test_figures_of_one_collection(draw, collection) -> None:  # type: ignore[no-untyped-def]
    png(draw(collection))


def test_steps_counts_every_attempt_once() -> None:
    axes = plots.steps(some_rollouts()).axes[0]
    assert sum(bar.get_height() for container in axes.containers for bar in container) == 12


def test_nothing_to_draw_is_an_error_that_says_how() -> None:
    with pytest.raises(ValueError, match="at least one collection by name"):
        plots.outcomes()


def test_drawing_never_imports_pyplot() -> None:
    code = (
        "import sys; from tests.samples import some_rollouts; import swebench_lab as lab; plots = lab.plots; r = some_rollouts();"
        "plots.outcomes(a=r)._repr_png_(); plots.timeline(r)._repr_png_();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
