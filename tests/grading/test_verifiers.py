"""Tasks that are graded by a script of their own: every kind of verifier, in fresh boxes, gold, untouched and broken."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

import swebench_lab as lab
from swebench_lab.grading.verifiers.reading import Reading
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.verdict import Cause
from tests.grading.script_tasks import BROKEN, GOLD, GRADED, HALF, REWARD, hidden, report_task, reward_task


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> lab.Evaluator:
    return lab.Evaluator(lab.SandboxFactory(cache=tmp_path_factory.mktemp("cache")), workers=1)


def test_a_reward_file_grades_gold_untouched_and_a_patch_that_is_half_right(evaluator, tmp_path):
    task = reward_task(tmp_path)
    gold = evaluator.grade(task, GOLD)
    assert (gold.status, dict(gold.rewards), gold.cause) == ("resolved", {"reward": 1.0}, Cause.TESTS)
    half = evaluator.grade(task, HALF)
    assert (half.status, dict(half.rewards)) == ("unresolved", {"reward": 0.0})
    assert any("separate verifier" in note for note in gold.notes)
    frame = evaluator.check(task, progress=False)
    assert frame["status"].to_list() == ["passed"]
    assert "not in the box: /tests" in frame["audit"].to_list()[0]


def test_named_rewards_are_kept_and_the_one_called_reward_decides(evaluator, tmp_path):
    task = reward_task(tmp_path, GRADED)
    verdict = evaluator.grade(task, HALF)
    assert (verdict.status, dict(verdict.rewards)) == ("unresolved", {"reward": 0.5, "style": 0.5})
    assert evaluator.grade(task, GOLD).resolved
    assert "short of the full reward: reward 0.5" in verdict.reason


def test_a_json_report_is_made_by_the_parser_in_a_box_of_its_own(evaluator, tmp_path):
    task = report_task(tmp_path)
    gold = evaluator.grade(task, GOLD)
    assert (gold.status, gold.official) == ("resolved", "resolved")
    assert dict(gold.tests) == {"adds two": "PASSED", "adds zero": "PASSED"}
    broken = evaluator.grade(task, HALF)
    assert (broken.status, broken.official) == ("unresolved", "unresolved")
    assert broken.fail_to_pass["failure"] == ("adds two",) and broken.pass_to_pass["success"] == ("adds zero",)
    assert evaluator.check(task, progress=False)["status"].to_list() == ["passed"]


def test_an_exit_marker_is_read_from_the_last_line_that_has_it(evaluator, tmp_path):
    command = 'sh /tests/test.sh; echo "SUITE_EXIT_CODE=$?"'
    script = '[ "$(sh add.sh 2 2)" = 4 ]\n'
    task = reward_task(tmp_path, script, kind="exit-marker", command=command, reads="SUITE_EXIT_CODE")
    assert evaluator.grade(task, GOLD).resolved
    assert evaluator.grade(task, HALF).status == "unresolved"


def test_a_log_is_read_by_a_parser_of_any_language(evaluator, tmp_path):
    script = 'if [ "$(sh add.sh 2 2)" = 4 ]; then echo "--- PASS: TestAdd (0.00s)"; else echo "--- FAIL: TestAdd (0.00s)"; fi\n'
    task = replace(
        reward_task(tmp_path, script, kind="log", command="sh /tests/test.sh", reads="parse_log_gotest"),
        fail_to_pass=("TestAdd",),
    )
    assert evaluator.grade(task, GOLD).resolved
    assert evaluator.grade(task, HALF).fail_to_pass["failure"] == ("TestAdd",)


def test_a_verifier_of_ones_own_is_registered_and_an_unknown_one_is_refused(evaluator, tmp_path):
    lab.register_verifier("first-word", lambda run: Reading(solved=run.stdout.split()[0] == "good"))
    task = reward_task(tmp_path, kind="first-word", command='[ "$(sh add.sh 2 2)" = 4 ] && echo good || echo bad')
    assert evaluator.grade(task, GOLD).resolved
    assert evaluator.grade(task, HALF).status == "unresolved"
    unknown = evaluator.grade(reward_task(tmp_path, kind="unheard-of"), GOLD)
    assert (unknown.status, unknown.cause) == ("not graded", Cause.INFRASTRUCTURE)
    assert "no verifier is called 'unheard-of'" in unknown.reason


def test_commands_run_before_the_hidden_tests_arrive_and_after_the_patch(evaluator, tmp_path):
    script = '[ "$(cat /app/order)" = "patched without" ] || exit 1\n' + REWARD
    before = (
        '[ -e /tests ] && echo with >order || { [ "$(sh add.sh 2 2)" = 4 ] && echo "patched without" >order; true; }'
    )
    assert evaluator.grade(reward_task(tmp_path, script, before=before), GOLD).resolved


def test_what_the_verifier_does_not_say_is_never_a_zero(evaluator, tmp_path):
    for script, words in (
        ("echo nan >/logs/verifier/reward.txt", "is no reward"), ("echo yes >/logs/verifier/reward.txt", "is no reward"),
        ("true", "wrote neither"), ("echo -1 >/logs/verifier/reward.txt", "failed itself"),
        ("kill -9 $PPID $$; sleep 1", "ended by signal"),
    ):  # fmt: skip
        verdict = evaluator.grade(reward_task(tmp_path, script), GOLD)
        assert verdict.status == "not graded" and words in verdict.reason, (script, verdict)


def test_a_verifier_that_only_the_patch_breaks_is_held_against_the_patch(evaluator, tmp_path):
    script = '[ "$(sh add.sh 9 9)" = 81 ] && exit 3\n' + REWARD
    breaking = make_patch({"add.sh": BROKEN}, {"add.sh": BROKEN.replace("-", "*")})
    verdict = evaluator.grade(reward_task(tmp_path, script), breaking)
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.CRASHED)


def test_a_separate_verifier_sees_the_artifacts_and_nothing_else_of_the_patch(evaluator, tmp_path):
    script = (
        '[ ! -e /app/planted ] && [ "$(sh /artifacts/add.sh 2 2)" = 4 ]\necho $((1 - $?)) >/logs/verifier/reward.txt\n'
    )
    task = reward_task(
        tmp_path, script, separate=True, artifacts=("/artifacts",), collect=("mkdir /artifacts; cp add.sh /artifacts/",)
    )
    patch = GOLD + make_patch({"planted": None}, {"planted": "x\n"})
    verdict = evaluator.grade(task, patch)
    assert verdict.resolved and not any("separate verifier" in note for note in verdict.notes)
    assert evaluator.grade(task, HALF).status == "unresolved"


def test_the_gold_may_be_a_script(evaluator, tmp_path):
    solution = hidden(tmp_path / "solution", "sed -i s/-/+/ /app/add.sh\n", "solve.sh")
    task = reward_task(tmp_path, solution="bash /solution/solve.sh", solution_files={"/solution": str(solution)})
    task = replace(task, gold_patch="")
    assert "+echo $(($1 + $2))" in evaluator.gold_patch(task)
    certificate = evaluator.certificate(task)
    assert certificate.passed and any("/solution" in line for line in certificate.audit)


def test_a_solution_that_changes_nothing_of_the_work_directory_fails_the_check(evaluator, tmp_path):
    task = replace(reward_task(tmp_path, solution="touch /elsewhere"), gold_patch="")
    certificate = evaluator.certificate(task)
    assert certificate.status == "failed" and "changed nothing in /app" in certificate.reason


def test_a_task_without_gold_is_a_state_of_its_own(evaluator, tmp_path):
    task = replace(reward_task(tmp_path), gold_patch="")
    certificate = evaluator.certificate(task)
    assert certificate.status == "no gold" and certificate.untouched == ("unresolved",)
    assert not certificate.passed and certificate.decided and not task.has_gold
    assert evaluator.grade(task, GOLD).resolved  # its verdicts are believed all the same
    assert evaluator.grade(task, HALF).status == "unresolved"
    assert not evaluator.certified([task])


def test_paths_with_answers_are_removed_from_the_agents_view_and_there_for_the_tests(evaluator, tmp_path):
    task = reward_task(tmp_path, "[ -e /answers/fix.patch ] || exit 1\n" + REWARD, raw=True)
    (tmp_path / "root" / "answers").mkdir()
    (tmp_path / "root" / "answers" / "fix.patch").write_text(GOLD)
    task = replace(task, removed=("/answers/fix.patch",))
    with evaluator.sandboxes.open(task) as box:
        assert box.list("/answers") == [] and box.workdir == "/app" and box.run("pwd").output == "/app\n"
    assert evaluator.check(task, progress=False)["status"].to_list() == ["passed"]


def test_a_base_is_substituted_only_where_the_user_says_so_and_every_verdict_names_it(tmp_path):
    task = replace(reward_task(tmp_path), source="", image="acme/base:1")
    bases = {"acme/base:1": f"folder:{tmp_path / 'root'}"}
    evaluator = lab.Evaluator(lab.SandboxFactory(cache=tmp_path / "cache", bases=bases), workers=1)
    verdict = evaluator.grade(task, GOLD)
    assert verdict.resolved and verdict.notes[0] == f"base: acme/base:1 was substituted by {bases['acme/base:1']}"
    assert pickle.loads(pickle.dumps(evaluator.sandboxes)).cache.bases == bases


def test_a_task_with_a_verifier_is_stored_and_read_back(tmp_path):
    task = replace(reward_task(tmp_path, env={"A": "b"}), removed=("/x",))
    assert lab.Task.from_dict(task.to_dict()) == task
    file = lab.Tasks([task]).save(tmp_path / "tasks.jsonl")
    with pytest.raises(lab.TaskError, match="place of this machine"):
        lab.load_tasks(file)
    assert lab.load_tasks(file, trust=True)[0] == task


def test_a_stored_log_of_such_a_task_is_not_graded_anew(evaluator, tmp_path):
    task = reward_task(tmp_path)
    with pytest.raises(lab.GradingError, match="does not hold the outcome"):
        evaluator.regrade(task, evaluator.grade(task, GOLD))
