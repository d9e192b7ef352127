"""Usage: what a reply took, as endpoints report it, and its price by a table that is the user's own.

What nobody counted is None, never 0: a limit on cost must not take an unknown price for none.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.errors import PolicyError

PRICES = "SWEBENCH_LAB_PRICES"
"""Environment variable: a JSON file of prices that every policy without its own `prices` looks into."""

Prices = Sequence[float] | Mapping[str, Any] | str | None
"""Three prices; a table, or the path of a JSON file that holds one; None: the file of `$SWEBENCH_LAB_PRICES`."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens.

    Args:
        input: Prompt tokens.
        cached_input: Prompt tokens that were served from a cache; None: as `input`.
        output: Tokens of the reply.
        cache_write: Prompt tokens that were put into a cache; None: as `input`.
    """

    input: float
    cached_input: float | None
    output: float
    cache_write: float | None = None

    def of(self, prompt: int, cached: int, cache_writes: int, completion: int) -> float:
        """Return a reply's price in US dollars; `prompt` counts the cached and written tokens too."""
        read = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        plain = max(0, prompt - cached - cache_writes)
        return (plain * self.input + cached * read + cache_writes * write + completion * self.output) / 1e6


def price_of(model: str, prices: Prices) -> Price | None:
    """Return a model's price.

    Args:
        model: Its name.
        prices: See `Prices`. A table maps names, or patterns such as `"*/model-*"`, to `{"input", "cached_input",
            "cache_write", "output"}` in US dollars per million tokens; the longest pattern that fits counts.

    Returns:
        None where no table knows the model.

    Raises:
        PolicyError: The file cannot be read, or an entry is no price.
    """
    if prices is not None and not isinstance(prices, str | Mapping):
        if len(prices) != 3:
            raise PolicyError(f"the prices of {model}: {prices!r} are not three numbers (prompt, cached prompt, reply)")
        return Price(*prices)
    table = prices if isinstance(prices, Mapping) else _table(prices or os.environ.get(PRICES, ""))
    fitting = [pattern for pattern in table if fnmatch.fnmatchcase(model, pattern)]
    if not fitting:
        return None
    entry = table[max(fitting, key=len)]
    try:
        unknown = set(entry) - {"input", "cached_input", "cache_write", "output"}
        if unknown:
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
        return Price(
            float(entry["input"]),
            _optional(entry, "cached_input"),
            float(entry["output"]),
            _optional(entry, "cache_write"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(
            f"the prices of {model}: an entry holds input and output, and perhaps cached_input and cache_write, in US "
            f"dollars per million tokens, not {entry!r} ({error})"
        ) from error


def _optional(entry: Mapping[str, Any], name: str) -> float | None:
    return None if entry.get(name) is None else float(entry[name])


def _table(path: str) -> Mapping[str, Any]:
    if not path:
        return {}
    try:
        table = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"reading the prices in {path}: {error}") from error
    if not isinstance(table, dict):
        raise PolicyError(f"reading the prices in {path}: it must hold an object, model to prices")
    return table


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply; None: not counted.

    Args:
        prompt: Tokens of the whole prompt, cached ones too.
        completion: Tokens of the reply, thought included.
        cached: Prompt tokens served from a cache.
        written: Prompt tokens put into one.
        cost: What the endpoint itself says that it costs, in US dollars.
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    written: int | None = None
    cost: float | None = None

    @classmethod
    def of_chat(cls, usage: Any) -> Usage:
        """Read the usage of a chat completion, in its dialects."""
        if not isinstance(usage, Mapping):
            return cls()
        details = usage.get("prompt_tokens_details")
        details = details if isinstance(details, Mapping) else {}
        prompt = count(usage.get("prompt_tokens"))
        cached = count(details.get("cached_tokens", usage.get("prompt_cache_hit_tokens")))
        cached = cached if cached is None or prompt is None else min(prompt, cached)
        cache_writes = count(details.get("cache_write_tokens", details.get("cache_creation_tokens")))
        return cls(prompt, count(usage.get("completion_tokens")), cached, cache_writes, _dollars(usage.get("cost")))

    @classmethod
    def of_messages(cls, usage: Any) -> Usage:
        """Read the usage of Anthropic's Messages, which counts cached tokens apart from the prompt."""
        if not isinstance(usage, Mapping):
            return cls()
        plain, cached = count(usage.get("input_tokens")), count(usage.get("cache_read_input_tokens"))
        cache_writes = count(usage.get("cache_creation_input_tokens"))
        prompt = None if plain is None else plain + (cached or 0) + (cache_writes or 0)
        return cls(prompt, count(usage.get("output_tokens")), cached, cache_writes)

    @classmethod
    def of_responses(cls, usage: Any) -> Usage:
        """Read the usage of OpenAI's Responses."""
        if not isinstance(usage, Mapping):
            return cls()
        details = usage.get("input_tokens_details")
        cached = count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
        return cls(count(usage.get("input_tokens")), count(usage.get("output_tokens")), cached)

    def fields(self, model: str, prices: Prices) -> dict[str, Any]:
        """Return the fields of a Reply: the endpoint's own price, or that of the table, or None."""
        cost = self.cost
        price = price_of(model, prices) if cost is None else None
        if price is not None and self.prompt is not None and self.completion is not None:
            cost = price.of(self.prompt, self.cached or 0, self.written or 0, self.completion)
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "cached_tokens": self.cached,
            "cost": cost,
        }


def count(value: Any) -> int | None:
    """Return a number of tokens, also where an endpoint writes it as a text or with a decimal point."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except ValueError:
        return None
    return int(number) if 0 <= number < 1e15 and number == int(number) else None


def _dollars(value: Any) -> float | None:
    try:
        dollars = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except ValueError:
        return None
    return dollars if 0 <= dollars < float("inf") else None
