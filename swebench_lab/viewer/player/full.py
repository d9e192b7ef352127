"""FullView: the player as its own widget, with keys, panels and a terminal; player.js draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from swebench_lab.viewer.player.controls import Controls, asset
from swebench_lab.viewer.player.kernel_messages import deliver_while_busy
from swebench_lab.viewer.player.model import PlayerModel


class FullView(anywidget.AnyWidget):
    """Draws a PlayerModel and does what is clicked and typed, also while a cell is running.

    Args:
        model: What is looked at.
        policies: Policies to choose from for branches, by name.
        on_ready: Called when the page says that it has drawn the player.
    """

    _esm = asset("player.js")
    _css = asset("player.css")
    overview: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    detail: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    panel: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    live: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    visible: traitlets.List[int] = traitlets.List().tag(sync=True)
    typed: traitlets.List[Any] = traitlets.List().tag(sync=True)
    policies: traitlets.List[str] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        model: PlayerModel,
        policies: Mapping[str, Any] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        deliver_while_busy(self)
        self.controls = Controls(model, policies or {}, lambda n, value: setattr(self, n, value), self._tell, on_ready)
        self.policies = self.controls.names
        self.on_msg(lambda _, message, __: self.controls.hear(message))

    def _tell(self, message: dict[str, Any], data: Any) -> None:
        self.send(message, list(data) or None)

    def stop(self) -> None:
        """Stop following the model."""
        self.controls.stop()
