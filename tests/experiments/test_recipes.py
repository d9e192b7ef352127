"""Recipes: parameters are checked before anything starts, runs are recorded, failures say where, reruns resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.errors import RecipeError, RecipeFailed
from swebench_lab.experiments import recipe_runs
from swebench_lab.experiments.recipe_runs import run_recipe
from swebench_lab.experiments.recipes import Parameter, Recipe, describe, list_recipes

PARAMETERS = """\
count: int = 3  # how many
rate: float = 0.5  # between 0 and 1
word: str = "a # b"
loud: bool = False
names: list[str] = ["x"]
limit: int | None = None  # none: no limit
run_dir: str = ""
"""


def notebook(path: Path, *cells: str, parameters: str = PARAMETERS, presets: str = "") -> Path:
    """Write a notebook with a parameters cell and the given code cells."""

    def code(source: str, tags: tuple[str, ...] = ()) -> dict[str, Any]:
        return {
            "cell_type": "code",
            "metadata": {"tags": list(tags)},
            "source": source,
            "outputs": [],
            "execution_count": None,
            "id": f"c{abs(hash(source)) % 10**8}",
        }

    cells_ = [{"cell_type": "markdown", "metadata": {}, "source": "# A toy\n\nwords", "id": "title"}]
    cells_ += [code(parameters, ("parameters",)), *(code(cell) for cell in cells)]
    kernel = {"kernelspec": {"name": "no-such-kernel", "display_name": "x", "language": "python"}}
    path.write_text(json.dumps({"cells": cells_, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}), "utf-8")
    if presets:
        path.with_suffix(".yaml").write_text(presets, "utf-8")
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    report = (
        "import json, os, pathlib, sys\n"
        "facts = dict(count=count, rate=rate, word=word, loud=loud, names=names, limit=limit)\n"
        "facts |= dict(executable=sys.executable, cwd=os.getcwd(), package=__import__('swebench_lab').__file__)\n"
        "pathlib.Path(run_dir, 'metrics.json').write_text(json.dumps(facts))"
    )
    return notebook(
        tmp_path / "toy.ipynb", report, presets="small: {count: 1}\nwrong: {cuont: 1}\nill: {count: many}\n"
    )


def test_describe_reads_types_defaults_and_comments(toy: Path) -> None:
    recipe = describe(toy)
    assert recipe.title == "A toy"
    assert recipe.parameters[:3] == (
        Parameter("count", "int", 3, "how many"),
        Parameter("rate", "float", 0.5, "between 0 and 1"),
        Parameter("word", "str", "a # b", ""),
    )
    assert [p.type for p in recipe.parameters[3:]] == ["bool", "list", "int | None", "str"]
    assert list(recipe.presets) == ["small", "wrong", "ill"]
    assert "count: int = 3  # how many" in repr(recipe) and "between 0 and 1" in recipe._repr_html_()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cuont": 1}, "no parameter 'cuont'; did you mean 'count'"),
        ({"count": "3"}, "'count' takes int, not str '3'"),
        ({"count": True}, "'count' takes int, not bool"),
        ({"count": 1.0}, "'count' takes int, not float"),
        ({"rate": "x"}, "'rate' takes float"),
        ({"loud": 1}, "'loud' takes bool"),
        ({"names": "x"}, "'names' takes list"),
        ({"limit": "1"}, r"'limit' takes int \| None"),
        ({"preset": "smal"}, "no preset 'smal'; did you mean 'small'"),
        ({"preset": "wrong"}, "did you mean 'count'"),
        ({"preset": "ill"}, "'count' takes int, not str 'many'"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_anything_is_made(toy: Path, values: dict[str, Any], said: str) -> None:
    folder = toy.parent / "run"
    with pytest.raises(RecipeError, match=said):
        run_recipe(toy, run_dir=folder, **values)
    assert not folder.exists()


def test_values_that_fit_are_taken(toy: Path) -> None:
    taken = describe(toy).values("small", {"rate": 1, "limit": 5, "names": ("a",), "word": Path("p")})
    assert taken == {"count": 1, "rate": 1, "limit": 5, "names": ["a"], "word": "p", "loud": False, "run_dir": ""}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "12", 12),
        ("float", "1e-3", 0.001),
        ("float", "2", 2.0),
        ("bool", "True", True),
        ("str", "12", "12"),
        ("list", '["a", 1]', ["a", 1]),
        ("int | None", "none", None),
        ("int | None", "4", 4),
        ("str | None", "null", None),
    ],
)
def test_texts_of_a_command_line_are_read_by_type(kind: str, text: str, value: Any) -> None:
    read = Parameter("p", kind, None).read(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(("kind", "text"), [("int", "1.5"), ("bool", "yes"), ("list", "a,b"), ("float", "x")])
def test_texts_that_mean_nothing_are_errors(kind: str, text: str) -> None:
    with pytest.raises(RecipeError, match="is not one"):
        Parameter("p", kind, None).read(text)


def test_a_parameter_that_could_never_be_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be called 'preset'"):
        describe(notebook(tmp_path / "toy.ipynb", parameters='preset: str = "x"\n'))


def test_an_unknown_recipe_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        describe("quikstart")
    with pytest.raises(RecipeError, match=r"no notebook .*missing\.ipynb"):
        describe("missing.ipynb")


def test_every_recipe_of_the_package_can_be_described_and_its_presets_fit() -> None:
    recipes = list_recipes()
    assert "quickstart" in [recipe.name for recipe in recipes]
    for recipe in recipes:
        assert recipe.title and "smoke" in recipe.presets
        for preset in recipe.presets:
            recipe.values(preset, {})


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_no_recipe_starts_with_a_parameter_that_is_unknown_or_of_another_type(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RecipeError, match="has no parameter 'no_such'"):
        run_recipe(recipe.name, "smoke", folder, no_such=1)
    for parameter in recipe.parameters:
        if parameter.name == "run_dir":
            continue
        with pytest.raises(RecipeError, match=f"'{parameter.name}' takes"):
            run_recipe(recipe.name, "smoke", folder, **{parameter.name: 7 if parameter.type == "str" else object()})
    assert not folder.exists(), "nothing was begun"


def test_a_run_uses_this_interpreter_and_package_and_records_itself(
    toy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = toy.parent / "run {with} braces"
    run = run_recipe(toy, preset="small", run_dir=folder, progress=False, word="it's")
    assert run.metrics["executable"] == sys.executable
    assert run.metrics["package"] == sys.modules["swebench_lab"].__file__
    assert run.metrics["cwd"] == str(Path.cwd())
    assert (run.metrics["count"], run.metrics["word"], run.metrics["limit"]) == (1, "it's", None)
    assert run.notebook == folder / "toy.ipynb" and run.notebook.is_file() and run.frame is None
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["status"] == "completed" and manifest["parameters"]["count"] == 1 and manifest["preset"] == "small"
    assert manifest["versions"]["swebench"].startswith("5.") and manifest["machine"]["tier"]
    assert manifest["earlier"] == []
    out = capfd.readouterr()
    assert out.out == "" and "encryption" not in out.err
    assert "widgets" not in json.loads(run.notebook.read_text("utf-8"))["metadata"]


def test_a_failure_names_cell_line_and_notebook_and_a_rerun_resumes(tmp_path: Path) -> None:
    count = "import pathlib\nwith pathlib.Path(run_dir, 'log').open('a') as log:\n    log.write('x')"
    fail = "left = 1\nassert pathlib.Path(run_dir, 'mended').exists(), 'not mended <yet>'"
    toy = notebook(tmp_path / "toy.ipynb", count, fail)
    with pytest.raises(RecipeFailed) as raised:
        run_recipe(toy, run_dir=tmp_path / "run", progress=False)
    said = str(raised.value)
    assert "line 2: `assert pathlib" in said and "AssertionError: not mended <yet>" in said and "In [4]" in said
    kept = tmp_path / "run" / "toy.ipynb"
    assert str(kept) in said and "not mended" in kept.read_text("utf-8")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))["status"] == "failed"
    (tmp_path / "run" / "mended").touch()
    run_recipe(toy, run_dir=tmp_path / "run", progress=False)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    assert manifest["status"] == "completed" and [run["status"] for run in manifest["earlier"]] == ["failed"]
    assert (tmp_path / "run" / "log").read_text() == "xx"


def test_a_player_in_a_recipe_leaves_its_static_view_and_bars_leave_nothing(tmp_path: Path) -> None:
    show = (
        "import swebench_lab as lab\nfrom tests.samples import a_rollout\nfrom tqdm.auto import tqdm\n"
        "for _ in tqdm(range(3)): pass\nlab.Stepper(a_rollout('unresolved'))"
    )
    run = run_recipe(notebook(tmp_path / "toy.ipynb", show), run_dir=tmp_path / "run", progress=False)
    from nbconvert import HTMLExporter

    stored = run.notebook.read_text("utf-8")
    assert "widget-view" not in stored and "100%" not in stored
    html, _ = HTMLExporter().from_filename(str(run.notebook))
    assert html.count("<details>") >= 7 and "Found 2 calls." in html and "unresolved" in html


def test_a_dead_kernel_is_told(tmp_path: Path) -> None:
    toy = notebook(tmp_path / "toy.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RecipeFailed, match="kernel died"):
        run_recipe(toy, run_dir=tmp_path / "run", progress=False)


def test_two_runs_never_share_a_run_directory_and_ctrl_c_ends_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_runs, "_ENDING", 0.2)
    wait = "import os, pathlib, time; pathlib.Path(run_dir, 'pid').write_text(str(os.getpid())); time.sleep(100)"
    toy = notebook(tmp_path / "toy.ipynb", wait)
    code = f"from swebench_lab.experiments.recipe_runs import run_recipe; run_recipe({str(toy)!r}, run_dir={str(tmp_path / 'run')!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    try:
        pid = tmp_path / "run" / "pid"
        wait_until(lambda: pid.exists() and pid.read_text() != "", 60)
        with pytest.raises(RecipeError, match="another run is using"):
            run_recipe(toy, run_dir=tmp_path / "run")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode != 0
    wait_until(lambda: not Path("/proc", pid.read_text()).exists(), 10)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))["status"] == "stopped"


def wait_until(true: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_quickstart_runs_headless_and_a_rerun_executes_nothing(tmp_path: Path) -> None:
    run = run_recipe("quickstart", preset="smoke", run_dir=tmp_path / "run", progress=False)
    assert run.metrics["rollouts"] == run.metrics["executed"] == 9 and run.metrics["not_graded"] == 0
    assert run.metrics["teacher"]["resolved_rate"] == 1.0 and run.metrics["null"]["resolved_rate"] == 0.0
    assert run.metrics["certified"] == 3
    assert run.frame is not None and run.frame.height == 9
    pages = list((tmp_path / "run" / "attempts").glob("*/*.html"))
    assert len(pages) == 9 and (tmp_path / "run" / "attempts" / "index.html").is_file()
    assert (tmp_path / "run" / "outcomes.png").stat().st_size > 5000
    outputs = [o for cell in json.loads(run.notebook.read_text("utf-8"))["cells"] for o in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "the figure is shown"
    again = run_recipe("quickstart", preset="smoke", run_dir=tmp_path / "run", progress=False)
    assert again.metrics["executed"] == 0
    for name in ("teacher", "null", "noisy"):
        assert again.metrics[name]["pass_at_1"] == run.metrics[name]["pass_at_1"]


def test_collect_leaves_files_to_train_on_and_a_rerun_executes_nothing(tmp_path: Path) -> None:
    run = run_recipe("collect", preset="smoke", run_dir=tmp_path / "run", progress=False)
    metrics = run.metrics
    assert metrics["rollouts"] == metrics["executed"] == 4 and metrics["not_graded"] == 0
    rows = [json.loads(line) for line in (run.run_dir / "sft.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == metrics["to_train_on"] == metrics["resolved"]
    assert all([m["role"] for m in row["messages"]][:3] == ["system", "user", "assistant"] for row in rows)
    assert len(json.loads((run.run_dir / "preds.json").read_text("utf-8"))) == 2
    assert "Board of" in (run.run_dir / "board.html").read_text("utf-8")
    again = run_recipe("collect", preset="smoke", run_dir=tmp_path / "run", progress=False)
    assert again.metrics["executed"] == 0 and again.metrics["resolved"] == metrics["resolved"]


def test_a_recipe_can_be_run_from_a_notebook(toy: Path) -> None:
    """A notebook's kernel has an event loop running already."""
    inner = f"import swebench_lab as lab\nlab.run_recipe({str(toy)!r}, run_dir=run_dir + '/inner', count=7)"
    outer = notebook(toy.parent / "outer.ipynb", inner)
    run_recipe(outer, run_dir=toy.parent / "run", progress=False)
    assert json.loads((toy.parent / "run" / "inner" / "metrics.json").read_text("utf-8"))["count"] == 7


@pytest.mark.slow
def test_prepare_and_evaluate_run_headless_one_after_the_other(tmp_path: Path) -> None:
    prepared = run_recipe("prepare", preset="smoke", run_dir=tmp_path / "prepare", progress=False)
    assert prepared.metrics["certified"] == prepared.metrics["tasks"] == 2
    assert prepared.metrics["statuses"] == {"passed": 2}
    for name in ("certified.jsonl", "certificates.png", "rl/train.parquet", "frame.parquet"):
        assert (tmp_path / "prepare" / name).is_file(), name
    certified = str(tmp_path / "prepare" / "certified.jsonl")
    first = run_recipe("evaluate", "gold", tmp_path / "evaluate", progress=False, tasks=certified)
    assert (first.metrics["resolved"], first.metrics["not_graded"], first.metrics["resolved_rate"]) == (2, 0, 1.0)
    report = json.loads(Path(first.metrics["report"]).read_text())
    assert (report["schema_version"], report["resolved_instances"]) == (2, 2)
    rows = (tmp_path / "evaluate" / "verdicts.jsonl").read_text().count("\n")
    again = run_recipe("evaluate", "gold", tmp_path / "evaluate", progress=False, tasks=certified)
    assert again.metrics["resolved"] == 2
    assert (tmp_path / "evaluate" / "verdicts.jsonl").read_text().count("\n") == rows == 2, "nothing graded twice"


@pytest.mark.slow
def test_ablate_says_of_two_rates_of_noise_which_is_worse(tmp_path: Path) -> None:
    run = run_recipe("ablate", preset="smoke", run_dir=tmp_path / "run", progress=False, workers=2)
    assert run.metrics["runs"] == {"completed": 4}
    means = {arm["arm"]: arm["mean"] for arm in run.metrics["arms"]}
    assert means["noise=0.0"] == 1.0 > means["noise=1.0"]
    assert (run.run_dir / "effects.png").stat().st_size > 5000
    assert run.frame is not None and run.frame.height == 4 and len(set(run.frame["folder"])) == 4


@pytest.mark.slow
def test_harness_compares_our_loop_with_an_agent_of_others(tmp_path: Path) -> None:
    run = run_recipe("harness", preset="smoke", run_dir=tmp_path / "run", progress=False)
    assert {name: row["resolved_rate"] for name, row in run.metrics["harnesses"].items()} == {
        "lab": 1.0,
        "thirty-lines": 1.0,
    }
    assert run.metrics["harnesses"]["thirty-lines"]["difference"] == 0.0 and run.metrics["executed"] == 4
    assert run.frame is not None and run.frame.height == 4
    again = run_recipe("harness", preset="smoke", run_dir=tmp_path / "run", progress=False)
    assert again.metrics["executed"] == 0


def test_a_recipe_says_what_to_install_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sft", "grpo"):
        assert (describe(name).modules, describe(name).extra) == (("torch", "transformers", "trl"), "train")
    there = recipe_runs.find_spec
    monkeypatch.setattr(recipe_runs, "find_spec", lambda name: None if name == "trl" else there(name))
    with pytest.raises(RecipeError, match=r"recipe 'sft' needs trl: pip install 'swebench-lab\[train\]'"):
        run_recipe("sft", preset="smoke", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
