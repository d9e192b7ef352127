"""ViewWidget: the viewer in a notebook; what its page asks is answered by the kernel, also while a cell is running."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anywidget
import traitlets

from swebench_lab.viewer.app.answers import Answer, Answers
from swebench_lab.viewer.app.assets import FILES, asset, notebook_script, notebook_style
from swebench_lab.viewer.player.kernel_messages import deliver_while_busy


class ViewWidget(anywidget.AnyWidget):
    """Shows the viewer below a cell.

    Args:
        answers: What it answers with.
        place: Where it begins, as after the `#` of a link.
        saved: HTML that stands for the page where no kernel answers, as in a saved notebook.
    """

    _esm = notebook_script()
    sheet: traitlets.Unicode[str, str | bytes] = traitlets.Unicode(notebook_style()).tag(sync=True)
    place: traitlets.Unicode[str, str | bytes] = traitlets.Unicode("").tag(sync=True)
    saved: traitlets.Unicode[str, str | bytes] = traitlets.Unicode("").tag(sync=True)

    def __init__(self, answers: Answers, place: str = "", saved: str = "") -> None:
        self._answers = answers
        self._pool = ThreadPoolExecutor(8, "viewer-answers")
        self._waiting = ThreadPoolExecutor(
            16, "viewer-news"
        )  # each page in a player keeps one waiting, and so no answer
        super().__init__(place=place, saved=saved)
        deliver_while_busy(self)
        self.on_msg(self._heard)

    def _heard(self, _: Any, message: Any, buffers: Any) -> None:
        if isinstance(message, dict) and isinstance(message.get("params"), dict):
            pool = self._waiting if message.get("what") == "news" else self._pool
            self._pass_on(pool, self._answer, message)

    def _pass_on(
        self, pool: ThreadPoolExecutor, work: Callable[[Mapping[str, Any]], None], message: Mapping[str, Any]
    ) -> None:
        try:
            pool.submit(work, message)
        except RuntimeError:
            pass  # closed in the meantime

    def _answer(self, message: Mapping[str, Any]) -> None:
        what, params = str(message.get("what")), message["params"]
        if what == "file" and params.get("name") in FILES:
            answer = Answer("text/plain", asset(FILES[params["name"]]))
        elif message.get("post"):
            answer = self._answers.post(what, params)
        else:
            query = {str(name): str(value) for name, value in params.items() if value is not None}
            answer = self._answers.get(what, query)
        self.send({"number": message.get("number"), "kind": answer.kind, "text": answer.text, "status": answer.status})

    def stop(self) -> None:
        """Answer no more."""
        for pool in (self._pool, self._waiting):
            pool.shutdown(wait=False, cancel_futures=True)
