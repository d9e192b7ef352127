"""Reward files as Harbor reads them: what we read of the same files, and each difference named."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from swebench_lab.grading.verifiers.readers import parse_rewards

HARBOR = os.environ.get("SWEBENCH_LAB_HARBOR_PYTHON", "")
"""An interpreter that has Harbor's own package (Python 3.12 or later)."""

OURS_ALONE = "not graded here, a reward there"
CASES: list[tuple[str | None, str | None, dict[str, float] | None, str]] = [
    # reward.json, reward.txt, the rewards (None: neither of us takes it), how we differ
    (None, "1", {"reward": 1.0}, ""), (None, "0", {"reward": 0.0}, ""), (None, "0.5\n", {"reward": 0.5}, ""),
    (None, " 1.0 \n", {"reward": 1.0}, ""), (None, "1e-3", {"reward": 0.001}, ""), (None, "3", {"reward": 3.0}, ""),
    (None, "1_0", {"reward": 10.0}, ""), (None, "+1", {"reward": 1.0}, ""), (None, ".5", {"reward": 0.5}, ""),
    (None, "", None, ""), (None, "\n", None, ""), (None, "nan", None, ""), (None, "inf", None, ""), (None, "-Infinity", None, ""),
    (None, "yes", None, ""), (None, "1 0", None, ""), (None, "1;", None, ""), (None, "0x1", None, ""), (None, "1,0", None, ""),
    (None, None, None, ""), (None, "{}", None, ""), (None, '{"reward": 1}', None, ""), (None, "true", None, ""),
    ('{"reward": 1}', None, {"reward": 1.0}, ""), ('{"reward": 0.25, "style": 1}', None, {"reward": 0.25, "style": 1.0}, ""),
    ('{"a": 0, "b": 1}', "1", {"a": 0.0, "b": 1.0}, ""), ('{"reward": true}', None, {"reward": 1.0}, ""),
    ('{"reward": "1"}', None, None, ""), ('{"reward": null}', None, None, ""), ('{"reward": [1]}', None, None, ""),
    ('{"reward": NaN}', None, None, ""), ('{"reward": Infinity}', "1", None, ""), ('{"reward": 1e309}', None, None, ""),
    ('{"reward": {"a": 1}}', None, None, ""), ("", "1", None, ""), ("{", "1", None, ""), ("[1]", None, None, ""), ('"1"', None, None, ""),
    ("1", None, None, ""), ("1.5", "0", None, ""), ("null", "1", None, ""), ("true", None, None, ""),
    (None, "-1", {"reward": -1.0}, OURS_ALONE), ('{"reward": -1}', None, {"reward": -1.0}, OURS_ALONE), ("{}", "1", {}, OURS_ALONE),
    ('{"other": -1}', None, {"other": -1.0}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("as_json", "as_text", "rewards", "difference"), CASES)
def test_rewards_are_read_as_harbor_reads_them(as_json, as_text, rewards, difference):
    reading = parse_rewards(as_json, as_text)
    assert (dict(reading.rewards) or None) == (None if difference else rewards)
    assert bool(reading.fault) == (rewards is None or bool(difference))


@pytest.mark.skipif(not HARBOR, reason="SWEBENCH_LAB_HARBOR_PYTHON names no interpreter with Harbor's package")
def test_harbors_own_code_reads_them_so(tmp_path: Path):
    assert len(CASES) >= 30
    for number, (as_json, as_text, *_) in enumerate(CASES):
        folder = tmp_path / str(number) / "verifier"
        folder.mkdir(parents=True)
        for name, text in (("reward.json", as_json), ("reward.txt", as_text)):
            if text is not None:
                (folder / name).write_text(text)
    driver = (
        "import json, pathlib, sys\n"
        "from harbor.verifier.verifier import Verifier\n"
        "from harbor.models.trial.paths import TrialPaths\n"
        "from harbor.models.verifier.result import VerifierResult\n"
        "found = {}\n"
        "for folder in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    verifier = object.__new__(Verifier); verifier.trial_paths = paths = TrialPaths(folder)\n"
        "    try:\n"
        "        if paths.reward_json_path.exists(): rewards = verifier._parse_reward_json()\n"
        "        else: rewards = verifier._parse_reward_text()\n"
        "        found[folder.name] = VerifierResult(rewards=rewards).rewards\n"
        "    except Exception as error: found[folder.name] = None\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([HARBOR, "-c", driver, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert {number: rewards for number, (_, _, rewards, _) in enumerate(CASES)} == {
        int(k): v for k, v in theirs.items()
    }
