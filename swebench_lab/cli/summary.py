"""What the command line says of rollouts and of recipes: rates, intervals, and the attempts that were not graded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from swebench_lab.records.tables.overview import aligned

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollouts

_REASONS = 5
"""How many reasons are printed."""


def summarise(rollouts: Rollouts, more: str = "") -> None:
    """Print the counts, pass@1 and why attempts were not graded, the commonest reasons first."""
    click.echo("\n".join(filter(None, (repr(rollouts), repr(rollouts.pass_at(1)), more))))
    every = rollouts.reasons
    for reason in every[:_REASONS]:
        click.echo(f"not graded: {reason.brief(400)} (e.g. {reason.task})", err=True)
    if others := sum(reason.count for reason in every[_REASONS:]):
        click.echo(f"not graded: {others} more, of other reasons", err=True)


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


def metrics_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return a recipe's metrics as lines for people: numbers by name, then one table of the agents.

    Values with parts of their own other than an agent's are left to metrics.json, and named.
    """
    parts = {name: value for name, value in metrics.items() if isinstance(value, Mapping)}
    agents = {
        name: value for name, value in parts.items() if "resolved" in value and ("graded" in value or "low" in value)
    }
    plain = {name: value for name, value in metrics.items() if not isinstance(value, Mapping | list)}
    plain |= {name: _counts(value) for name, value in parts.items() if name not in agents and _counts(value)}
    rest = [name for name in metrics if name not in agents and name not in plain]
    lines = [f"{name.replace('_', ' ')}: {_short(value)}" for name, value in plain.items()]
    if agents:
        columns = ("agent", "resolved", "pass@1", "95 % interval", "not graded")
        lines += ["", *aligned(columns, map(_agent_row, agents.items())), ""]
    if rest:
        lines.append(f"in metrics.json: {', '.join(rest)}")
    return lines


def _agent_row(agent: tuple[str, Mapping[str, Any]]) -> tuple[str, str, str, str, str]:
    name, value = agent
    rate = value if "low" in value else value.get("pass_at_1") or {}
    graded = value.get("graded", value["resolved"] + value.get("unresolved", 0))
    left = value.get("not_graded", value.get("not graded", 0))
    percentage = f"{rate['value']:.1%}" if rate.get("n") else "–"
    interval = f"{rate['low']:.1%} to {rate['high']:.1%}" if rate.get("n") else "–"
    return name, f"{value['resolved']} of {graded}", percentage, interval, str(left)


def _counts(value: Mapping[str, Any]) -> str:
    """Return a mapping that holds nothing but counts as words; empty where it holds something else."""
    counts = [f"{count} {name}" for name, count in value.items() if isinstance(count, int)]
    return ", ".join(counts) if len(counts) == len(value) <= 8 else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
