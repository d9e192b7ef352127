"""A headless Chromium for tests of pages, driven over its own debugging protocol."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--remote-debugging-port=0", "--remote-allow-origins=*"),
)

_TEXTS = {"Enter": "\r"}
_CODES = {"Enter": 13, "Escape": 27, "]": 221}
_DRAWN = "document.readyState == 'complete' && document.documentElement.classList.contains('js')"


def busy() -> float:
    """How many processes want a processor, for each there is: what a bound of time is multiplied by."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Browser:
    """One page in a browser of its own; everything it logs and requests is kept."""

    def __init__(self, url: str, width: int = 1400, height: int = 1000, ready: str = _DRAWN) -> None:
        from websocket import create_connection

        self._profile = tempfile.mkdtemp(prefix="lab-browser-")
        command = [
            CHROMIUM,
            *_QUIET,
            f"--user-data-dir={self._profile}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        found = next(filter(None, (re.search(r"ws://(127\.0\.0\.1:\d+)", line) for line in self._process.stderr)))
        with urllib.request.urlopen(f"http://{found[1]}/json", timeout=20) as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        self._socket = create_connection(page["webSocketDebuggerUrl"], timeout=60)
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        try:
            self.wait_for(ready, 180)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its answer; events that come meanwhile are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def eval(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def frames(self, element: str, by: int = 120, count: int = 90) -> list[float]:
        """Scroll an element a little in every frame; returns the milliseconds between frames, in order of size."""
        scroll = (
            f"new Promise((done) => {{ const e = {element}, gaps = []; let last = performance.now(); "
            "const step = () => { const now = performance.now(); gaps.push(now - last); last = now; "
            f"e.scrollTop += {by}; if (gaps.length < {count}) requestAnimationFrame(step); else done(gaps); }}; "
            "requestAnimationFrame(step); })"
        )
        answer = self.call("Runtime.evaluate", expression=scroll, awaitPromise=True, returnByValue=True)
        return sorted(answer["result"]["value"])

    def wait_for(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.eval(expression):
            assert time.monotonic() < end, f"waited too long for {expression}"
            time.sleep(0.02)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        text = key if len(key) == 1 else _TEXTS.get(key, "")
        code = {"windowsVirtualKeyCode": _CODES[key]} if key in _CODES else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, modifiers=modifiers, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers, **code)

    def type(self, text: str) -> None:
        """Press the key of every character; a line's end is Enter."""
        for key in text:
            self.press("Enter" if key == "\n" else key)

    def screenshot(self, path: Path) -> None:
        """Keep a picture of what is in sight."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """What the page logged, and its uncaught errors."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event for event in self.events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """Addresses of everything the page asked for."""
        sent = (event for event in self.events if event["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)
        if self._process.stderr:
            self._process.stderr.close()
        shutil.rmtree(Path(self._profile), ignore_errors=True)
