"""Models: the model that a configuration file names, as a policy."""

from __future__ import annotations

import os
from typing import Any

from swebench_lab.agents.configs.options import Settings
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.policies.human import HumanPolicy
from swebench_lab.policies.policy import Policy
from swebench_lab.policies.scripted import NullPolicy

_PROVIDERS = ("openai/", "custom_openai/", "hosted_vllm/", "litellm_proxy/")
_OWN_KEYS = ("temperature", "top_p", "stop", "api_base", "base_url", "api_key", "max_tokens")
_UNSENT = ("temperature", "top_p")
"""What a null leaves out of the request."""

_LITELLM = ("drop_params", "parallel_tool_calls", "num_retries", "custom_llm_provider")
"""What litellm is told and no endpoint needs to know."""


def swe_agent_policy(settings: Settings, nearest: str, tool_calls: bool) -> Policy:
    """Return the policy that SWE-agent's `agent.model` names.

    Args:
        settings: The file.
        nearest: Call format of replies, a name in `calls.FORMATS`.
        tool_calls: Whether the endpoint makes calls of its own kind.

    Raises:
        ConfigError: There is no model, or no endpoint for it.
    """
    name = settings.text("agent.model.name")
    if name in ("human", "human_thought"):
        return HumanPolicy()
    if name == "instant_empty_submit":
        return NullPolicy(nearest)
    if name == "replay":
        raise settings.wrong("agent.model.name", "give policy=lab.ReplayPolicy(…) of the attempts to replay")
    kwargs = dict(settings.get("agent.model.completion_kwargs", {}, dict))
    base = settings.text("agent.model.api_base") or str(kwargs.get("api_base") or kwargs.get("base_url") or "")
    limit = int(settings.number("agent.model.max_output_tokens")) or kwargs.get("max_tokens")
    length = int(settings.number("agent.model.max_input_tokens"))
    return ChatPolicy(
        _address(settings, base, "agent.model.api_base"),
        _without_provider(name),
        api_key=_key(settings, settings.text("agent.model.api_key")),
        temperature=settings.number("agent.model.temperature", 0.0),
        top_p=settings.number("agent.model.top_p", 1.0),
        max_tokens=limit or None,
        max_length=length or None,
        stop=settings.strings("agent.model.stop") or _stop(kwargs),
        timeout=settings.number("agent.model.timeout", 300.0),
        retries=int(settings.number("agent.model.retry.retries", 20)),
        pause=settings.number("agent.model.retry.min_wait", 10.0),
        body=_body(kwargs),
        tool_calls=tool_calls,
    )


def mini_policy(settings: Settings, tool_calls: bool) -> Policy:
    """Return the policy that mini-swe-agent's `model` names.

    Raises:
        ConfigError: There is no model, or no endpoint for it.
    """
    kwargs = dict(settings.get("model.model_kwargs", {}, dict))
    name = settings.text("model.model_name")
    if not name:
        raise settings.wrong("model.model_name", "no model is named; name one, or give policy=")
    base = str(kwargs.get("api_base") or kwargs.get("base_url") or "")
    return ChatPolicy(
        _address(settings, base, "model.model_kwargs.api_base"),
        _without_provider(name),
        api_key=_key(settings, str(kwargs.get("api_key") or "")),
        temperature=settings.number("model.model_kwargs.temperature", 1.0),
        top_p=settings.number("model.model_kwargs.top_p", 1.0),
        max_tokens=int(settings.number("model.model_kwargs.max_tokens")) or None,
        stop=_stop(kwargs),
        body={**_body(kwargs), **{name: None for name in _UNSENT if name in kwargs and kwargs[name] is None}},
        tool_calls=tool_calls,
    )


def _address(settings: Settings, base: str, option: str) -> str:
    address = base or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or ""
    if not address:
        raise settings.wrong(
            option,
            "no endpoint is named; name one, set $OPENAI_BASE_URL, or give policy=, such as "
            "lab.ChatPolicy('http://localhost:8000/v1', model='…')",
        )
    return address


def _without_provider(name: str) -> str:
    for provider in _PROVIDERS:
        if name.startswith(provider):
            return name.removeprefix(provider)
    return name


def _key(settings: Settings, value: str) -> str:
    if ":::" in value:
        raise settings.wrong("agent.model.api_key", "several keys are not taken over; give one")
    return os.environ.get(value[1:], "") if value.startswith("$") else value


def _stop(kwargs: dict[str, Any]) -> tuple[str, ...]:
    stop = kwargs.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(map(str, stop))


def _body(kwargs: dict[str, Any]) -> dict[str, Any]:
    left = {key: value for key, value in kwargs.items() if key not in (*_OWN_KEYS, *_LITELLM)}
    more = left.pop("extra_body", None)
    return {**left, **(more if isinstance(more, dict) else {})}
