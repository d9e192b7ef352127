"""A JupyterHub of its own for tests, with unix users that are made for it, and their kernels."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import queue
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.browser import Browser

ROOT = Path(__file__).parent.parent
USERS = ("lab-ada", "lab-bob")
KEEPER = "lab-keeper"
_TEST_CONFIG = """
load_subconfig({example!r})
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.ConfigurableHTTPProxy.command = [{prefix!r} + "/bin/configurable-http-proxy"]
c.JupyterHub.authenticator_class = "dummy"  # a page logs in with the token of the tests, and requests bring it along
c.DummyAuthenticator.password = {token!r}
c.Spawner.args = [*c.Spawner.args, "--LabApp.expose_app_in_browser=True"]
c.Authenticator.allow_all = True
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie"
c.JupyterHub.services.append(dict(name="tests", api_token={token!r}))
c.JupyterHub.load_roles.append(
    dict(name="tests", scopes=["admin:users", "admin:servers", "access:servers", "tokens"], services=["tests"]))
c.Spawner.start_timeout = c.Spawner.http_timeout = 180
"""


class Hub:
    """A hub on the loopback; its users and everything of theirs go when it ends.

    Args:
        prefix: Environment with JupyterHub, its proxy, the idle culler and the notebook extra.
        quota: What the administrator's file of quotas says.
    """

    def __init__(self, prefix: Path, quota: str) -> None:
        self.prefix = prefix
        self.folder = Path(tempfile.mkdtemp(prefix="lab-hub-"))
        self.folder.chmod(0o755)
        self.token = secrets.token_hex(16)
        self.port, hub, proxy = free_ports(3)
        self.address = f"http://127.0.0.1:{self.port}"
        for name in (*USERS, KEEPER):
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
            self.home(name).chmod(0o700)
        self._code()
        (self.folder / "quota.toml").write_text(quota)
        own = self.folder / "hub"
        own.mkdir(mode=0o700)
        facts = {"port": self.port, "hub": hub, "proxy": proxy, "prefix": str(prefix), "folder": own}
        example = str(ROOT / "docs/jupyterhub_config.py")
        (own / "config.py").write_text(_TEST_CONFIG.format(example=example, token=self.token, **facts))
        self._log = (own / "hub.log").open("w")
        start = (
            "mount --make-rprivate / && mount -t proc -o hidepid=invisible proc /proc && "
            f"exec {prefix}/bin/jupyterhub -f {own}/config.py"
        )
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", start],
            env=self.environment | {"SECRET_OF_THE_HUB": "hub-secret"},
            cwd=own,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        self._wait()

    def _code(self) -> None:
        """Lay the package where every user can read it."""
        for name in ("swebench_lab", "recipes", "notebooks"):
            shutil.copytree(ROOT / name, self.folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.folder / "code")

    @staticmethod
    def home(user: str) -> Path:
        return Path(pwd.getpwnam(user).pw_dir)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "LAB_PREFIX": str(self.prefix),
            "LAB_SHARED": str(self.folder / "shared"),
            "PYTHONPATH": str(self.folder / "code"),
            "SWEBENCH_LAB_QUOTA": str(self.folder / "quota.toml"),
        }

    def keep(self, code: str) -> str:
        """Run Python as the keeper of what is shared."""
        keeper = pwd.getpwnam(KEEPER)
        shared = self.folder / "shared"
        shared.mkdir(exist_ok=True)
        os.chown(shared, keeper.pw_uid, keeper.pw_gid)
        done = subprocess.run(
            [f"{self.prefix}/bin/python", "-c", code],
            env=self.environment | {"HOME": keeper.pw_dir, "SWEBENCH_LAB_SHARED_CACHE": f"{shared}/packs"},
            user=keeper.pw_uid, group=keeper.pw_gid, extra_groups=[], cwd=keeper.pw_dir,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _wait(self) -> None:
        for _ in range(3000):
            try:
                self.ask("GET", "/hub/api/")
                return
            except OSError:
                assert self._process.poll() is None, self.log()
                time.sleep(0.1)
        raise AssertionError(f"JupyterHub did not come up: {self.log()}")

    def log(self) -> str:
        return (self.folder / "hub/hub.log").read_text()[-6000:]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request with the token of the tests."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.address + path, data, {"Authorization": f"token {self.token}"})
        asked.get_method = lambda: method  # type: ignore[method-assign]
        with urllib.request.urlopen(asked, timeout=60) as answer:
            content = answer.read()
            return json.loads(content) if content[:1] in (b"{", b"[") else None

    def answer(self, path: str, token: str, cookie: str = "") -> tuple[int, str, str]:
        """Return the status of a request, the cookie that it sets, and its text; where it leads is not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"token {token}", "Cookie": cookie})
        answer = connection.getresponse()
        cookies = [one.split(";")[0] for one in answer.headers.get_all("Set-Cookie") or ()]
        text = answer.read().decode()
        connection.close()
        return answer.status, "; ".join(one for one in cookies if "view" in one), text

    def token_of(self, user: str) -> str:
        """Return a token that is a user's own, and may what the user may."""
        return str(self.ask("POST", f"/hub/api/users/{user}/tokens", {"note": "tests"})["token"])

    def page(self, user: str, path: str) -> Browser:
        """Log a user in by the hub's own page, and return the browser at a path of the user's server."""
        inside = quote(f"/user/{user}/{path}")
        browser = Browser(f"{self.address}/hub/login?next={inside}", 1400, 1200, "document.forms.length > 0")
        browser.eval(f"document.getElementById('username_input').value = {user!r}")
        browser.eval(f"document.getElementById('password_input').value = {self.token!r}; document.forms[0].submit()")
        return browser

    def start(self, user: str) -> float:
        """Start a user's server; returns the seconds that took."""
        began = time.monotonic()
        try:
            self.ask("POST", f"/hub/api/users/{user}", {})
        except urllib.error.HTTPError as error:
            assert error.code == 409, error  # is there
        while self.ask("GET", f"/hub/api/users/{user}")["servers"]:  # one that is being stopped refuses the next
            assert time.monotonic() < began + 60, self.log()
            time.sleep(0.2)
        self.ask("POST", f"/hub/api/users/{user}/server", {})
        while not self.ready(user):
            assert time.monotonic() < began + 180, self.log()
            time.sleep(0.2)
        return time.monotonic() - began

    def ready(self, user: str) -> bool:
        """Whether a user's server is up."""
        servers = self.ask("GET", f"/hub/api/users/{user}")["servers"]
        return bool(servers) and servers[""]["ready"]

    def kernel(self, user: str) -> Kernel:
        return Kernel(self, user)

    @contextmanager
    def culler(self, idle: int) -> Iterator[None]:
        """Run an idle culler that is less patient than the hub's own."""
        command = [f"{self.prefix}/bin/jupyterhub-idle-culler", f"--timeout={idle}", "--cull-every=2"]
        running = subprocess.Popen(
            [*command, f"--url={self.address}/hub/api"],
            env=self.environment | {"JUPYTERHUB_API_TOKEN": self.token},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(20)

    def processes(self, user: str) -> list[int]:
        """Return the processes that run as a user."""
        number = pwd.getpwnam(user).pw_uid
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == number and "State:\tZ" not in (folder / "status").read_text():
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        for name in (*USERS, KEEPER):
            for _ in range(20):
                left = self.processes(name)
                for process in left:
                    try:
                        os.kill(process, 9)
                    except ProcessLookupError:
                        continue
                if not left:
                    break
                time.sleep(0.1)
            number = pwd.getpwnam(name).pw_uid
            shutil.rmtree(Path(tempfile.gettempdir()) / f"swebench-lab-{number}", ignore_errors=True)
            subprocess.run(["userdel", "--remove", name], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Kernel:
    """A kernel on a user's server, reached as a page reaches it: through the hub's proxy."""

    def __init__(self, hub: Hub, user: str) -> None:
        from websocket import create_connection

        self.hub, self.user = hub, user
        self.id = hub.ask("POST", f"/user/{user}/api/kernels", {"name": "python3"})["id"]
        self._socket = create_connection(
            f"ws://127.0.0.1:{hub.port}/user/{user}/api/kernels/{self.id}/channels",
            header=[f"Authorization: token {hub.token}"],
            timeout=300,
        )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Take what comes, all the time: a socket that nobody reads does not answer pings, and is closed."""
        try:
            while text := self._socket.recv():
                self._messages.put(json.loads(text))
        except Exception:  # closed, by us or by the hub: whoever waits is told
            pass
        self._messages.put(None)

    def send(self, code: str) -> str:
        """Begin to run a cell; returns its number."""
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "username": "", "session": "tests", "version": "5.4"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        return number

    def result(self, number: str) -> tuple[str, str]:
        """Wait for a cell; returns what it printed and showed, and its error."""
        printed, error, idle, replied = [], "", False, False
        while not (idle and replied):
            message = self._messages.get(timeout=600)
            assert message is not None, f"the channels of {self.user}'s kernel were closed"
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            elif kind in ("execute_result", "display_data"):
                printed += [str(content["data"].get(form, "")) for form in ("text/plain", "text/html")]
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            idle |= kind == "status" and content["execution_state"] == "idle"
            replied |= kind == "execute_reply"
        return "\n".join(printed), error

    def run(self, code: str) -> str:
        """Run a cell that must not fail."""
        said, error = self.result(self.send(code))
        assert not error, error
        return said

    def close(self) -> None:
        self._socket.close()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
