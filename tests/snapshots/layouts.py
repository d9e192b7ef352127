"""OCI images made by hand: layers of every compression, an index for several machines, and a server that gives them away."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from swebench_lab.snapshots.image import registry

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def packed(content: bytes, compression: str) -> bytes:
    """A layer as it travels."""
    if compression == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=content, capture_output=True, check=True).stdout
    return gzip.compress(content, mtime=0) if compression == "gzip" else content


class Layout:
    """An OCI layout in a folder.

    Args:
        folder: Made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)

    def blob(self, data: bytes, **facts: Any) -> dict[str, Any]:
        """Add a file; returns its descriptor."""
        name = hashlib.sha256(data).hexdigest()
        (self.blobs / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data), **facts}

    def image(self, *layers: tuple[bytes, str], config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Add an image of layers (content, compression); returns its descriptor."""
        diffs = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content, _ in layers]
        described = json.dumps({"rootfs": {"type": "layers", "diff_ids": diffs}, "config": config or {}}).encode()
        kinds = [f"application/vnd.oci.image.layer.v1.tar{f'+{c}' if c else ''}" for _, c in layers]
        listed = [
            self.blob(packed(content, c), mediaType=kind) for (content, c), kind in zip(layers, kinds, strict=True)
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": listed,
                    "config": self.blob(described, mediaType="application/vnd.oci.image.config.v1+json")}  # fmt: skip
        return self.blob(json.dumps(manifest).encode(), mediaType=MANIFEST)

    def close(self, *entries: dict[str, Any]) -> Path:
        """Write the index."""
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.folder / "index.json").write_text(json.dumps(self.index(*entries)))
        return self.folder

    @staticmethod
    def index(*entries: dict[str, Any]) -> dict[str, Any]:
        return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}


def several(layout: Layout, mine: dict[str, Any], other: dict[str, Any]) -> bytes:
    """An index with an image for another machine first, one for this one, and what says how they were built."""
    return json.dumps(layout.index(
        {**other, "platform": {"os": "linux", "architecture": "riscv64"}},
        {**other, "platform": {"os": "windows", "architecture": registry.machine()}},
        {**mine, "platform": {"os": "linux", "architecture": registry.machine()}},
        {**other, "platform": {"os": "unknown", "architecture": "unknown"}},
    )).encode()  # fmt: skip


class Registry:
    """A registry that gives a layout away on the loopback, to whoever has a token; blobs come from a second address.

    Args:
        layout: What it holds, under any name.
        top: What a tag means.
        user: Who gets a token, as `name:password`; empty: everybody.
    """

    def __init__(self, layout: Layout, top: bytes, user: str = "") -> None:
        self.asked: list[tuple[str, str]] = []  # path, authorization
        registry, basic = self, base64.b64encode(user.encode()).decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sent = self.headers.get("Authorization", "")
                registry.asked.append((f"{self.server.server_port}{self.path}", sent))
                if self.path.startswith("/token"):
                    fine = not user or sent == f"Basic {basic}"
                    self.answer(200 if fine else 401, b'{"token": "t"}' if fine else b"{}")
                elif self.path.startswith("/away/"):
                    self.answer(200, (layout.blobs / self.path.rpartition(":")[2]).read_bytes())
                elif sent != "Bearer t":
                    realm = (
                        f'Bearer realm="http://127.0.0.1:{registry.port}/token",service="s",scope="repository:x:pull"'
                    )
                    self.answer(401, b"", {"WWW-Authenticate": realm})
                elif "/blobs/" in self.path:
                    self.answer(
                        307,
                        b"",
                        {"Location": f"http://127.0.0.1:{registry.other_port}/away/{self.path.rpartition('/')[2]}"},
                    )
                elif self.path.rpartition("/")[2] in ("latest", "1"):
                    self.answer(200, top)
                elif (place := layout.blobs / self.path.rpartition(":")[2]).is_file():
                    self.answer(200, place.read_bytes())
                else:
                    self.answer(404, b"{}")

            def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(code)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        self.port, self.other_port = (server.server_port for server in self._servers)

    def __enter__(self) -> Registry:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
