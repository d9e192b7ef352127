"""What the command line says of rollouts: the rate, and the attempts that were not graded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollouts


def summarise(rollouts: Rollouts, more: str) -> None:
    """Print the counts, pass@1 and the reasons of the first attempts that were not graded."""
    click.echo(f"{rollouts!r}\n{rollouts.pass_at(1)!r}\n{more}")
    for rollout in rollouts.not_graded[:5]:
        reason = rollout.verdict.reason.strip().split("\n")[-1][:200]
        click.echo(f"not graded: {rollout.task.id}, attempt {rollout.trajectory.attempt}: {reason}", err=True)


def newest(rollouts: Rollouts) -> Rollouts:
    """Return each attempt once: rows of a task whose Snapshot has since changed are dropped."""
    from swebench_lab.records.rollout import Rollouts

    newest = {(r.task.id, r.trajectory.attempt, r.trajectory.seed, r.trajectory.agent): r for r in rollouts}
    return Rollouts(newest.values(), rollouts.name)


def by_agent(rollouts: Rollouts) -> dict[str, Rollouts]:
    """Return the rollouts of each agent, named by its policy, plus its digest where one policy has several agents."""
    agents = dict.fromkeys((r.trajectory.policy, r.trajectory.agent) for r in rollouts)
    policies = [policy for policy, _ in agents]

    def name(policy: str, agent: str) -> str:
        return f"policy {policy}" + (f", agent {agent[:8]}" if policies.count(policy) > 1 else "")

    return {
        name(*pair): rollouts.filter(lambda r, pair=pair: (r.trajectory.policy, r.trajectory.agent) == pair)  # type: ignore[misc]
        for pair in agents
    }
