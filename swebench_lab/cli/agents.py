"""The agent that a command line describes: its options, its policy, its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swebench_lab.cli.options import Command, trusted

if TYPE_CHECKING:
    from swebench_lab.agents.agent import Agent
    from swebench_lab.policies.policy import Policy


def endpoint_options(command: Command) -> Command:
    """Add the options of an endpoint that answers."""
    options = (
        click.option("--url", "urls", multiple=True,
                     help="For chat: base URL of the endpoint, ending in /v1; repeat for replicas."),
        click.option("--model", default="default", show_default=True, help="For chat: model name at the endpoint."),
        click.option("--revision", default="", help="For chat: version of the weights behind that name."),
        click.option("--key-from", default="OPENAI_API_KEY", show_default=True,
                     help="For chat: environment variable with the API key."),
        click.option("--temperature", type=click.FloatRange(0), default=1.0, show_default=True,
                     help="For chat: sampling temperature."),
        click.option("--top-p", type=click.FloatRange(0, 1), default=1.0, show_default=True,
                     help="For chat: nucleus sampling threshold."),
        click.option("--reply-tokens", type=click.IntRange(1), help="For chat: maximum tokens per reply."),
        click.option("--tool-calls", is_flag=True, help="For chat: use the endpoint's native tool calls."),
        click.option("--tokenizer", default="", help="For chat: the model's tokenizer, to record exact token ids."),
        click.option("--prices", type=(float, float, float),
                     help="For chat: dollars per million prompt, cached-prompt and reply tokens; costs are unknown without."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def agent_options(command: Command) -> Command:
    """Add the options of the agent that attempts tasks."""
    options = (
        click.option("--noise", type=click.FloatRange(0, 1), default=0.5, show_default=True,
                     help="For noisy: probability of a mistake."),
        click.option("--script", type=click.Path(exists=True, dir_okay=False),
                     help="For script: a JSON list of replies."),
        endpoint_options,
        click.option("--flavour", default="xml", show_default=True, help="Prompts and tool-call format."),
        click.option("--config", multiple=True,
                     help="A SWE-agent or mini-swe-agent YAML file that defines the agent (replaces --flavour); repeat it "
                          "for files, or values such as agent.step_limit=50, that override those before."),
        click.option("--config-root", type=click.Path(exists=True, file_okay=False),
                     help="Folder that relative paths in --config are resolved against."),
        click.option("--max-steps", type=click.IntRange(1), help="Maximum replies per attempt.  [default: 40]"),
        click.option("--command-timeout", type=click.FloatRange(0, min_open=True), help="Timeout of a command in seconds."),
        click.option("--max-tokens", type=click.IntRange(1), help="Maximum sampled tokens per attempt."),
        click.option("--max-cost", type=click.FloatRange(0, min_open=True), help="Maximum cost per attempt in dollars."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def make_agent(agent: str, options: dict[str, Any]) -> Agent:
    """Return the agent that the options of `agent_options` describe."""
    from swebench_lab.agents.agent import Agent

    names = ("max_steps", "command_timeout", "max_tokens", "max_cost")
    limits = {name: options[name] for name in names if options[name] is not None}
    if options["config"]:
        policy = None if agent == "chat" and not options["urls"] else _policy(agent, options)
        # without a policy, the file names the model and the endpoint
        return Agent.from_config(options["config"], policy, root=options["config_root"], **limits)
    try:
        return Agent(_policy(agent, options), options["flavour"], **limits)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def chat_policy(options: dict[str, Any]) -> Policy:
    """Return the policy of an endpoint; the key comes from the environment, as other users can read command lines."""
    import os

    from swebench_lab.policies.chat import ChatPolicy

    if not options["urls"]:
        raise click.UsageError("the agent chat needs --url URL or a --config that names an endpoint")
    return ChatPolicy(
        options["urls"],
        options["model"],
        options["revision"],
        api_key=os.environ.get(options["key_from"], ""),
        temperature=options["temperature"],
        top_p=options["top_p"],
        max_tokens=options["reply_tokens"],
        tool_calls=options["tool_calls"],
        tokenizer=options["tokenizer"],
        prices=options["prices"],
    )


def _policy(agent: str, options: dict[str, Any]) -> Policy:
    """Return the policy of an agent; teachers know the whole set, so collecting more tasks later resumes the run."""
    from swebench_lab.policies.scripted import NullPolicy, ScriptedPolicy
    from swebench_lab.policies.teachers.teacher import NoisyTeacher, Teacher
    from swebench_lab.tasks.loading import load_tasks

    if agent == "chat":
        return chat_policy(options)
    if agent == "null":
        return NullPolicy()
    if agent == "script":
        if not options["script"]:
            raise click.UsageError("the agent script needs --script FILE")
        replies = json.loads(Path(options["script"]).read_text("utf-8"))
        if not isinstance(replies, list) or not all(isinstance(reply, str) for reply in replies):
            raise click.BadParameter("expected a JSON list of strings", param_hint="--script")
        return ScriptedPolicy(replies, Path(options["script"]).stem)
    tasks = load_tasks(options["source"], trust=trusted())
    return Teacher(tasks) if agent == "teacher" else NoisyTeacher(tasks, options["noise"], options["seed"])
