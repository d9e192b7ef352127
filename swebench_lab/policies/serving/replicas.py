"""Replicas: the servers of one model as their trainer talks to them, all at once; one that is gone is left out."""

from __future__ import annotations

import http.client
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from swebench_lab.errors import ServingError

_log = logging.getLogger(__name__)

TIMEOUT = 1800.0
"""Seconds until a server that does not answer is given up."""


class Gone(ServingError):
    """A server cannot be reached any more."""


class Replicas:
    """Some servers of one model.

    Args:
        urls: Their addresses, up to and with `/v1`.
        api_key: Key that requests must carry; empty: none.
    """

    def __init__(self, urls: Sequence[str], api_key: str = "") -> None:
        self.urls = list(urls)
        """Those that are there."""
        self._api_key = api_key

    def each(self, path: str, body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None) -> list[Any]:
        """Post something to all servers at once, and return their answers.

        Args:
            path: Where to, behind the server's own address; it may hold a query.
            body: What; a list: one for each server.

        Raises:
            ServingError: One refuses, or all are gone.
        """
        bodies = list(body) if isinstance(body, Sequence) else [body or {}] * len(self.urls)
        with ThreadPoolExecutor(max(1, len(self.urls))) as pool:
            futures = [pool.submit(self.ask, url, path, one) for url, one in zip(list(self.urls), bodies, strict=True)]
        return self.answers(dict(zip(list(self.urls), futures, strict=True)))

    def answers(self, asked: Mapping[str, Any]) -> list[Any]:
        """Return what futures of `ask` came to, by server; a server that is gone is left out from now on.

        Raises:
            ServingError: One refused, or all are gone.
        """
        results = []
        for url, future in asked.items():
            try:
                results.append(future.result())
            except Gone as error:
                self.urls.remove(url)
                _log.warning("the server %s is gone, and left out: %s", url, error)
        if not self.urls:
            raise ServingError(f"updating weights: none of the servers {', '.join(asked)} can be reached any more")
        return results

    def ask(self, url: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post to one server, or get where there is no body; return the answer as plain JSON values.

        Raises:
            Gone: It cannot be reached.
            ServingError: It refuses.
        """
        where = url.removesuffix("/v1") + path
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(where, data, headers), timeout=TIMEOUT) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            message = " ".join(error.read().decode("utf-8", "replace").split())[:300]
            hint = "; start it with serve(…, updates=True)" if error.code == 404 else "; see its log"
            raise ServingError(f"asking {where}: {error.code} {message}{hint}") from error
        except (OSError, http.client.HTTPException) as error:  # the latter: it ended in the middle of its answer
            raise Gone(f"asking {where}: {error}") from error
        try:
            return json.loads(text) if text.strip() else {}
        except ValueError:
            return {}  # a plain word, as some of vLLM's answers are
