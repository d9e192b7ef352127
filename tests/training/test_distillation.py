"""A teacher changes what is trained: the policy comes nearer to it where every reward is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.training.engines.run import read_rollouts
from swebench_lab.training.options.settings import GRPOSettings
from tests.training import ground

pytestmark = pytest.mark.filterwarnings("ignore")
torch = ground.torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.tiny(str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def teacher(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same model with a taste of its own: its weights are moved at random."""
    model = lab.LocalPolicy(folder).model
    place = tmp_path_factory.mktemp("teacher")
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.2 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(place)
    lab.load_tokenizer(folder).save_pretrained(place)
    return lab.LocalPolicy(place)


def run(folder: Path, tmp: Path, sandboxes: Any, **given: Any) -> Any:
    collector = lab.RolloutCollector(sandboxes, workers=4, reward=lambda _: 0.0)
    shape = {"num_generations": 8, "tasks_per_update": 1, "per_device_train_batch_size": 8, "updates": 3}
    agent = ground.agent(ground.policy(folder, max_tokens=12), max_steps=1)
    return lab.GRPO(agent, collector, output_dir=tmp, learning_rate=2e-2, **{**shape, **given})


def divergence(policy: Any, teacher: Any, rows: list[Any]) -> float:
    """Mean reverse KL divergence of whole distributions, where the tokens of some rows were sampled."""
    found = []
    with torch.no_grad():
        for row in rows:
            ids = torch.as_tensor(row.ids.astype("int64"))[None]
            own, other = (side.model(ids).logits[0, :-1].log_softmax(-1) for side in (policy, teacher))
            found.append((own.exp() * (own - other)).sum(-1)[torch.as_tensor(row.mask[1:] == 1)])
    return float(torch.cat(found).mean())


@pytest.mark.slow
def test_attempts_all_alike_bring_the_policy_nearer_to_its_teacher(folder: Path, teacher: Any, tmp_path: Path) -> None:
    with lab.SandboxFactory("namespace") as sandboxes:
        grpo = run(folder, tmp_path, sandboxes, teacher=teacher, distillation=1.0)
        trained = grpo.fit(ground.micro())
    table = grpo.table.to_frame()
    assert max(table["teacher_gap"]) < -0.1 and set(table["reward"]) == {0.0}  # minus the divergence, as it was sampled
    assert min(table["grad_norm"]) > 0.0 and max(table["logprob_gap"]) < 1e-4
    rows = [part for rollout in read_rollouts(tmp_path / "rollouts") for part in lab.segments(rollout.trajectory)]
    before, after = (divergence(policy, teacher, rows) for policy in (lab.LocalPolicy(folder), trained))
    print(f"reverse KL divergence {before:.3f} -> {after:.3f}")
    assert after < before - 0.005  # without the teacher there is no gradient at all


def test_a_teacher_that_cannot_teach_is_refused(folder: Path, teacher: Any, tmp_path: Path) -> None:
    with lab.SandboxFactory("namespace") as sandboxes:
        with pytest.raises(TrainingError, match="teacher goes with the setting distillation"):
            run(folder, tmp_path, sandboxes, teacher=teacher)
        with pytest.raises(TrainingError, match="teacher goes with the setting distillation"):
            run(folder, tmp_path, sandboxes, distillation=0.5)
        with pytest.raises(TrainingError, match="how likely given ids are"):
            run(folder, tmp_path, sandboxes, teacher=lab.NullPolicy(), distillation=0.5).fit(ground.micro())

        class Other:
            name = "other"
            logprobs = teacher.logprobs

            def load_tokenizer(self) -> Any:
                tokenizer = lab.load_tokenizer(folder)
                tokenizer.add_tokens(["never seen"])
                return tokenizer

        with pytest.raises(TrainingError, match="tokens of 'other' are not those of the policy"):
            run(folder, tmp_path, sandboxes, teacher=Other(), distillation=0.5).fit(ground.micro())
    for wrong, words in (({"engine": "async"}, "one advantage"), ({"loss_type": "sapo"}, "an advantage of its own"),
                         ({"refill": 1}, "no group")):  # fmt: skip
        with pytest.raises(TrainingError, match=words):
            GRPOSettings(distillation=0.5, **wrong)
