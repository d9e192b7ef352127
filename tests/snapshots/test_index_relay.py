"""IndexRelay: a build reaches the package index and nothing else, obeys the date, and sees no password."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.environment.index_relay import IndexRelay, Upstream, upstreams
from swebench_lab.snapshots.factory import SandboxFactory
from tests.boxes import make_snapshot
from tests.sandbox.repositories import FILES, make_task, write

LOGIN = "Basic " + base64.b64encode(b"somebody:s3cret").decode()
RELEASES = {"1.0": "2020-01-01T00:00:00Z", "1.5": "2021-05-06T23:00:00.123Z", "2.0": "2024-01-01T00:00:00Z"}


def wheel(version: str) -> bytes:
    """Return a wheel of `tiny`, whose one module says its version."""
    buffer, info = io.BytesIO(), f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # without the time: every wheel of a version has one digest
    return buffer.getvalue()


class Index(BaseHTTPRequestHandler):
    """An index that asks for a login, and answers in JSON, or in HTML without dates."""

    speaks_json = True

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != LOGIN:
            self.send_error(401)
        elif self.path == "/simple/tiny/":
            files = []
            for version, when in RELEASES.items():
                name = f"tiny-{version}-py3-none-any.whl"
                digest = hashlib.sha256(wheel(version)).hexdigest()
                files.append(
                    {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": digest}, "upload-time": when}
                )
            if self.speaks_json:
                self._say(json.dumps({"meta": {"api-version": "1.1"}, "name": "tiny", "files": files}).encode(),
                          "application/vnd.pypi.simple.v1+json")  # fmt: skip
            else:
                rows = [f'<a href="{f["url"]}#sha256={f["hashes"]["sha256"]}">{f["filename"]}</a>' for f in files]  # type: ignore[index]
                self._say("\n".join(rows).encode(), "text/html")
        elif self.path.startswith("/files/tiny-"):
            self._say(wheel(self.path.split("-")[1]), "application/octet-stream")
        else:
            self.send_error(404)

    def _say(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["json", "html"])
def index(request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("OneIndex", (Index,), {"speaks_json": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://somebody:s3cret@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def get(url: str, accept: str = "text/html") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("accept", ["text/html", "application/vnd.pypi.simple.v1+json"])
def test_a_page_leads_nowhere_else_and_holds_no_login(index: str, accept: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with IndexRelay(listener, [Upstream(index)]) as relay:
        page = get(relay.variables()["PIP_INDEX_URL"] + "tiny/", accept)
        assert page.count("tiny-1.5-py3-none-any.whl") == 2
        assert "s3cret" not in page and "/simple" not in page
        base = relay.variables()["PIP_INDEX_URL"].partition("/index")[0]
        assert page.count("http://") == page.count(f"{base}/file/") == 3
        for wrong in (
            "/index/7/tiny/",
            "/file/0123456789abcdef/x.whl",
            "/http://127.0.0.1/",
            "/index/0/none/",
            "/index/0/../tiny/x/",
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(base + wrong)


def test_what_was_published_later_is_left_out(index: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with IndexRelay(listener, [Upstream(index)], "2021-05-06") as relay:
        page = get(relay.variables()["PIP_INDEX_URL"] + "tiny/")
    assert "tiny-1.0" in page and "tiny-1.5" in page, "that day is still part of it"


def test_the_settings_of_pip_and_uv_name_the_indexes() -> None:
    found = upstreams(
        {
            "UV_DEFAULT_INDEX": "https://a/simple",
            "UV_INDEX": "b=https://b/s file:///c",
            "PIP_FIND_LINKS": "/d http://e/",
        }
    )
    assert found == (Upstream("https://a/simple"), Upstream("https://b/s"), Upstream("http://e/", is_index=False))
    assert [one.url for one in upstreams({})] == ["https://pypi.org/simple"]


@pytest.mark.parametrize("tier", ["namespace-root", "namespace-rootless"])
def test_a_box_is_answered_on_its_own_loopback(tmp_path: Path, tier: str) -> None:
    with open_namespace(make_snapshot(tmp_path, {"a.py": ""}), tier=tier) as box, box.listen() as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"from the host\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert box.run(f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3").output == "from the host\n"
        thread.join()
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            pass  # not the machine's loopback
        with pytest.raises(SandboxError, match="Address already in use"):
            box.listen(port)


@pytest.mark.parametrize("how", ["pip install --no-build-isolation tiny", "uv pip install tiny"])
@pytest.mark.parametrize(("day", "version"), [("2021-05-06", "1.5"), ("2020-06-01", "1.0"), ("", "2.0")])
def test_builds_by_pip_and_by_uv_obey_the_date(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    index: str,
    how: str,
    day: str,
    version: str,
    request: pytest.FixtureRequest,
) -> None:
    if "html" in request.node.name and day:
        pytest.skip("an index that bears no dates")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    spec = {"packages": [f"pip=={metadata.version('pip')}"], "paths": ["src"], "install": how, "exclude_newer": day}
    folder = write(tmp_path / "plain", FILES)
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes, sandboxes.open(make_task(folder, spec=spec)) as box:
        assert box.run(["python", "-c", "import tiny; print(tiny.VERSION)"]).output == f"{version}\n"


def test_a_build_reaches_neither_this_machine_nor_its_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://somebody:s3cret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://other:s3cret2@127.0.0.1:9/simple")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0lab-test-abstract")
        abstract.listen()
        tries = [
            f"! (: </dev/tcp/127.0.0.1/{server.getsockname()[1]})",
            "python -c \"import socket; assert socket.socket(socket.AF_UNIX).connect_ex(chr(0) + 'lab-test-abstract')\"",
            "! env | grep -i s3cret",
            "python -c \"import socket; assert socket.socket().connect_ex(('1.1.1.1', 443))\"",
            'test -n "$PIP_INDEX_URL"',
        ]
        spec = {"packages": [], "paths": ["src"], "install": " && ".join(tries)}
        SandboxFactory(cache=tmp_path / "cache").snapshot(make_task(write(tmp_path / "plain", FILES), spec=spec))
