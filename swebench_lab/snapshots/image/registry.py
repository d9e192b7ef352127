"""Registries: an image fetched over HTTP, without an engine, into a folder laid out as OCI images are.

Every blob is checked against its digest while it arrives. Credentials are those that `docker login` has written to the
user's configuration file, and are sent to the registry that they were made for and to the service it names, never on to
where it redirects.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import platform
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from swebench_lab.errors import SnapshotError

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
)  # fmt: skip
_HUB, _HUB_HOST, _HUB_KEY = "docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(f"{_PART}(?:/{_PART})*")
_MOST_MANIFEST = 8 << 20
_CHUNK = 1 << 20
_SECONDS = 60.0
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def machine() -> str:
    """Return the name that images have for the processor of this machine."""
    return _MACHINES.get(platform.machine(), platform.machine())


def for_this_machine(index: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the entry of an index that is meant for Linux on this machine's processor.

    Raises:
        SnapshotError: There is none, or there are several different ones.
    """
    entries = list(index.get("manifests", ()))
    fitting = [entry for entry in entries if _fits(entry.get("platform") or {})]
    matches = [entry for entry in fitting if entry.get("platform")] or fitting
    if not matches:
        offered = sorted(
            {"/".join(filter(None, map((e.get("platform") or {}).get, ("os", "architecture")))) for e in entries}
        )
        raise SnapshotError(
            f"reading the image {source}: it holds nothing for linux/{machine()}, only {', '.join(offered) or 'nothing'}"
        )
    if len({entry["digest"] for entry in matches}) > 1 and not all(entry.get("platform") for entry in matches):
        names = [(entry.get("annotations") or {}).get("org.opencontainers.image.ref.name", "?") for entry in matches]
        raise SnapshotError(
            f"reading the image {source}: it holds {len(matches)} images ({', '.join(names)}); save one to a file"
        )
    result: dict[str, Any] = matches[0]
    return result


def _fits(target: Mapping[str, Any]) -> bool:
    return bool(target.get("os", "linux") == "linux" and target.get("architecture", machine()) == machine())


@dataclass(frozen=True)
class Reference:
    """What the name of an image means.

    Attributes:
        host: The registry, with its port.
        repository: The image's path there.
        version: A tag, or a digest that begins with "sha256:".
    """

    host: str
    repository: str
    version: str

    @classmethod
    def parse(cls, name: str) -> Reference:
        """Return what a name such as `debian:12`, `ghcr.io/owner/image@sha256:…` or `localhost:5000/x` means.

        Raises:
            SnapshotError: It is no name of an image.
        """
        rest, _, digest = name.partition("@")
        first, slash, others = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            host, rest = first, others
        else:
            host = _HUB
        path, _, tag = rest.rpartition(":") if ":" in rest.rpartition("/")[2] else (rest, "", "")
        if host in (_HUB, "index.docker.io"):
            host, path = _HUB_HOST, path if "/" in path else f"library/{path}"
        version = digest or tag or ("" if name.endswith(":") else "latest")
        fine = _REPOSITORY.fullmatch(path) and re.fullmatch(r"\w[\w.-]*|sha256:[0-9a-f]{64}", version)
        if not fine or not re.fullmatch(r"[\w.-]+(:\d+)?", host):
            raise SnapshotError(
                f"fetching the image {name!r}: that is no name of an image, such as debian:12 or host:5000/owner/name@sha256:…"
            )
        return cls(host, path, version)

    @property
    def scheme(self) -> str:
        """How its registry is spoken to; one of this machine without encryption, as engines do."""
        alone = self.host.partition(":")[0]
        return "http" if alone == "localhost" or re.fullmatch(r"127(\.\d+){3}", alone) else "https"

    @property
    def address(self) -> str:
        """Where its registry answers."""
        return f"{self.scheme}://{self.host}/v2/{self.repository}"


def pull(name: str, folder: Path, is_there: Callable[[str], bool] = lambda _: False) -> None:
    """Fetch an image for this machine into an empty folder, as an OCI layout with one manifest.

    Args:
        name: Of the image, with a tag or digest.
        folder: Filled with `index.json` and `blobs/`.
        is_there: Whether the layer with this sha256 of its uncompressed content is not needed.

    Raises:
        SnapshotError: It cannot be had, or something that arrives is not what its digest says.
    """
    reference = Reference.parse(name)
    registry = _Registry(reference, name)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    content = registry.manifest(reference.version)
    manifest = json.loads(content)
    while "manifests" in manifest:
        content = registry.manifest(for_this_machine(manifest, name)["digest"])
        manifest = json.loads(content)
    if "layers" not in manifest or "config" not in manifest:
        raise SnapshotError(
            f"fetching the image {name}: its manifest is of the kind {manifest.get('mediaType', 'before 2016')!r}"
        )
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    config = registry.blob(manifest["config"]["digest"], blobs)
    diffs = [
        str(diff).removeprefix("sha256:")
        for diff in json.loads(config.read_bytes()).get("rootfs", {}).get("diff_ids", ())
    ]
    for number, layer in enumerate(manifest["layers"]):
        if number >= len(diffs) or not is_there(diffs[number]):
            registry.blob(layer["digest"], blobs)
    entry = {"digest": f"sha256:{digest}", "size": len(content)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


class _Registry:
    """One repository of a registry.

    Args:
        reference: What is asked for.
        name: How its user calls it, for messages.
    """

    def __init__(self, reference: Reference, name: str) -> None:
        self._reference = reference
        self._host = reference.host
        self._name = name
        self._authorization = ""
        self._opener = urllib.request.build_opener(_Redirects())

    def manifest(self, version: str) -> bytes:
        """A manifest or index, by its tag or digest."""
        with self._open(f"manifests/{version}", _MANIFESTS) as answer:
            content: bytes = answer.read(_MOST_MANIFEST)
        if version.startswith("sha256:") and hashlib.sha256(content).hexdigest() != version.removeprefix("sha256:"):
            raise self._error(f"the manifest {version} is not what its digest says")
        return content

    def blob(self, digest: str, folder: Path) -> Path:
        """A file of an image, written to a folder under its digest."""
        kind, _, value = str(digest).partition(":")
        if kind != "sha256" or not re.fullmatch("[0-9a-f]{64}", value):
            raise self._error(f"{digest!r} is no sha256 digest")
        total = hashlib.sha256()
        try:
            with self._open(f"blobs/{digest}") as answer, (folder / value).open("wb") as file:
                while data := answer.read(_CHUNK):
                    total.update(data)
                    file.write(data)
        except (http.client.HTTPException, OSError) as error:
            raise self._error(f"{digest[:19]} broke off ({error}); try again") from error
        if total.hexdigest() != value:
            raise self._error(f"{digest[:19]} is not what its digest says; try again")
        return folder / value

    def _open(self, what: str, accept: tuple[str, ...] = (), again: bool = True) -> Any:
        """An answer to read from; asked a second time with credentials where the registry wants some."""
        headers = {"Accept": ", ".join(accept)} if accept else {}
        if self._authorization:
            headers["Authorization"] = self._authorization
        request = urllib.request.Request(f"{self._reference.address}/{what}", headers=headers)
        try:
            return self._opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code == 401 and again:
                self._authorization = self._authorize(error.headers.get("WWW-Authenticate", ""))
                return self._open(what, accept, again=False)
            advice = {401: "log in with `docker login`", 404: "there is no such image or tag",
                      429: "the registry wants fewer requests; wait, or log in"}  # fmt: skip
            raise self._error(
                f"{self._host} answers {error.code} {error.reason}; {advice.get(error.code, 'try again')}"
            ) from error
        except OSError as error:
            without = "where there is no network, give an archive or an OCI layout"
            raise self._error(f"{self._host} cannot be reached ({error}); {without}") from error

    def _error(self, problem: str) -> SnapshotError:
        return SnapshotError(f"fetching the image {self._name}: {problem}")

    def _authorize(self, challenge: str) -> str:
        """What to send as `Authorization`, given what the registry asked for."""
        credentials = _credentials(self._host)
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if not credentials:
                raise self._error(f"{self._host} wants a user; log in with `docker login {self._host}`")
            return f"Basic {credentials}"
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = fields.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("https://", f"{self._reference.scheme}://")):
            raise self._error(f"{self._host} asks for {challenge[:80]!r}, which is not spoken here")
        scope = fields.get("scope", f"repository:{self._reference.repository}:pull")
        query = urllib.parse.urlencode({"service": fields.get("service", ""), "scope": scope})
        request = urllib.request.Request(f"{realm}?{query}")
        if credentials:
            request.add_header("Authorization", f"Basic {credentials}")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                values = json.loads(answer.read(_MOST_MANIFEST))
        except (OSError, ValueError) as error:
            raise self._error(f"{realm} gives no token ({error}); log in again") from error
        return f"Bearer {values.get('token') or values.get('access_token') or ''}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, without the credentials where they lead to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


def _credentials(host: str) -> str:
    """The user and password for a registry, as Basic authorization wants them; empty where none are stored."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    file = Path(os.environ.get("REGISTRY_AUTH_FILE") or Path(folder) / "config.json")
    try:
        logins = json.loads(file.read_bytes()).get("auths") or {}
    except (OSError, ValueError):
        return ""
    names = (_HUB_KEY, _HUB, "index.docker.io") if host == _HUB_HOST else (host, f"https://{host}", f"http://{host}")
    entry: dict[str, Any] = next((logins[name] for name in names if isinstance(logins.get(name), dict)), {})
    if entry.get("username") and entry.get("password"):
        return base64.b64encode(f"{entry['username']}:{entry['password']}".encode()).decode()
    return str(entry.get("auth") or "")
