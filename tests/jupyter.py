"""A JupyterLab of its own for tests, and a page of it in a browser."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from swebench_lab.snapshots.cache import SnapshotCache
from tests.browser import Browser

ROOT = Path(__file__).parent.parent
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
}
IDLE_PAGE = """(() => { const c = [...(window.jupyterapp?.shell.widgets('main') ?? [])].find((w) => w.sessionContext)?.sessionContext;
  return c?.isReady && c.session?.kernel?.connectionStatus === 'connected' && c.session.kernel.status === 'idle' })()"""


class Lab:
    """A JupyterLab on the loopback, with settings of its own.

    Args:
        folder: Where notebooks, settings and logs are.
        without: An extension that the page shall not have.
    """

    def __init__(self, folder: Path, without: str = "") -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.token = secrets.token_hex(8)
        self.address = f"http://127.0.0.1:{self.port}"
        own = {
            "HOME": folder / "home",
            "JUPYTER_CONFIG_DIR": folder / "config",
            "JUPYTER_DATA_DIR": folder / "data",
            "JUPYTER_RUNTIME_DIR": folder / "run",
            "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        }
        for path in own.values():
            path.mkdir(parents=True, exist_ok=True)
        for name, values in _SETTINGS.items():
            file = folder / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        if without:
            page = folder / "config" / "labconfig" / "page_config.json"
            page.parent.mkdir(parents=True)
            page.write_text(json.dumps({"disabledExtensions": {without: True}}))
        env = {
            **os.environ,
            **{name: str(path) for name, path in own.items()},
            "PYTHONPATH": str(ROOT),
            "SWEBENCH_LAB_CACHE": str(SnapshotCache().root),
        }
        command = [
            *(
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--ip=127.0.0.1",
                f"--port={self.port}",
            ),
            *("--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={folder}"),
            *("--LabApp.extension_manager=readonly", "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True"),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        self._log = (folder / "lab.log").open("w")
        self._process = subprocess.Popen(command, env=env, stdout=self._log, stderr=subprocess.STDOUT, cwd=folder)
        self._wait()

    def _wait(self) -> None:
        asked = urllib.request.Request(f"{self.address}/api/status", headers={"Authorization": f"token {self.token}"})
        for _ in range(1800):
            try:
                urllib.request.urlopen(asked, timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, (self.folder / "lab.log").read_text()
                time.sleep(0.1)
        raise AssertionError("JupyterLab did not come up")

    def notebook(self, name: str, *cells: str) -> None:
        """Write a notebook of these cells."""
        made = [
            {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
            for n, cell in enumerate(cells)
        ]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        whole = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (self.folder / name).write_text(json.dumps(whole))

    def open(self, name: str, run: bool = True) -> Browser:
        """Open a notebook in a browser, and run all of it."""
        shown = "document.querySelector('.jp-NotebookPanel .jp-Cell') !== null"
        url = f"{self.address}/lab/tree/{name}?token={self.token}&reset"
        browser = Browser(url, 1600, 1350, ready=shown)
        try:
            browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
            browser.wait_for(IDLE_PAGE, 120)
            if run:
                browser.eval("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        except BaseException:
            browser.__exit__(None, None, None)
            raise
        return browser

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def complaints(browser: Browser) -> list[Any]:
    """Return what the page logged as an error, and its uncaught errors."""
    return [
        event["params"]
        for event in browser.complaints
        if event["method"] == "Runtime.exceptionThrown"
        or event["params"].get("entry", {}).get("level") == "error"
        or event["params"].get("type") == "error"
    ]


def foreign(browser: Browser, address: str) -> list[str]:
    """Return the addresses outside of the server that the page asked for."""
    return [url for url in browser.requests if not url.startswith((address, "data:", "blob:", "about:"))]
