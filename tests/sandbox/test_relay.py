"""A box with an allow-list reaches what the list names, by a relay that says so, and nothing else."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

import swebench_lab as lab
from swebench_lab.sandbox.relay import AllowList
from tests.conftest import make_task
from tests.grading.script_tasks import GOLD, REWARD, reward_task

FETCH = """python3 - <<'EOF'
import urllib.request
try:
    print(urllib.request.urlopen("{url}", timeout=20).read().decode())
except OSError as error:
    print(error)
EOF"""


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{self.path} {self.headers['Host']}".encode())

        def log_message(self, *words: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_address[1]
        found.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> lab.Task:
    return reward_task(tmp_path_factory.mktemp("relay"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> lab.SnapshotCache:
    return lab.SnapshotCache(tmp_path_factory.mktemp("cache"))


def proxied(url: str, proxy: str = "127.0.0.1:3128") -> str:
    """What fetches a page through the relay, loopback addresses too."""
    return f"no_proxy= NO_PROXY= http_proxy=http://{proxy} " + FETCH.format(url=url)


def test_a_listed_host_is_reached_and_every_other_is_refused_and_both_are_named(cache, place, server):
    with lab.SandboxFactory(cache=cache, network="allow:127.0.0.1").open(place) as box:
        assert box.run(proxied(f"http://127.0.0.1:{server}/a?b=c")).output.strip() == f"/a?b=c 127.0.0.1:{server}"
        assert "403" in box.run(proxied("http://example.org/")).output
        assert "403" in box.run(proxied(f"http://localhost:{server}/")).output  # no name leads to this machine
        tunnel = f"exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT 127.0.0.1:{server} HTTP/1.1\\r\\n\\r\\n' >&3; head -1 <&3"
        assert "200" in box.run(tunnel).output
        assert not box.run(f"exec 3<>/dev/tcp/127.0.0.1/{server}").ok  # not but through the relay
        assert not box.run("exec 3<>/dev/tcp/198.51.100.1/80").ok
        said = [str(contact) for contact in box.relay.contacts]
    assert said == [f"127.0.0.1:{server} let through", "example.org:80 refused", f"localhost:{server} refused",
                    f"127.0.0.1:{server} let through"]  # fmt: skip


def test_what_is_no_request_is_answered_and_ends_nothing(cache, place, server):
    with lab.SandboxFactory(cache=cache, network="allow:127.0.0.1").open(place) as box:
        talk = "exec 3<>/dev/tcp/127.0.0.1/3128; printf '%b' '{}' >&3; head -1 <&3"
        for text in ("nonsense\\r\\n\\r\\n", "CONNECT x HTTP/1.1\\r\\n\\r\\n", "GET /a HTTP/1.1\\r\\n\\r\\n"):
            assert "400" in box.run(talk.format(text)).output
        assert box.run(proxied(f"http://127.0.0.1:{server}/")).output.startswith("/ ")
    assert box.relay is not None and not box.alive()


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("allow:PyPI.org.", ["pypi.org", "PYPI.org."], ["x.pypi.org", "pypi.org.evil"]),
        ("allow:*.hosted.org", ["a.hosted.org", "a.b.hosted.org"], ["hosted.org", "xhosted.org"]),
        ("allow:10.0.0.0/8,::1", ["10.1.2.3", "[::1]"], ["11.0.0.1", "pypi.org"]),
        ("allow:*", ["pypi.org", "8.8.8.8"], ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"]),
    ],
)
def test_an_allow_list_knows_names_suffixes_addresses_and_networks(text, yes, no):
    found = AllowList(text)
    assert [found.lets(host) for host in yes] == [True] * len(yes)
    assert [found.lets(host) for host in no] == [False] * len(no)
    assert not AllowList("allow:*").reaches("127.0.0.1") and AllowList("allow:*").reaches("8.8.8.8")


def test_networks_that_are_none_are_refused_by_name():
    for network in ("allow:", "allow:http://x", "allow:a b", "allow:-x", "internet"):
        with pytest.raises(ValueError, match="network"):
            lab.SandboxFactory(network=network)


def test_a_task_has_the_network_that_it_asks_for_by_consent_alone_and_its_verifier_its_own(cache, tmp_path, server):
    script = proxied(f"http://127.0.0.1:{server}/") + f"\n{REWARD}"
    task = reward_task(tmp_path, script, network="allow:127.0.0.1")
    with lab.SandboxFactory(cache=cache).open(task) as box:
        assert box.relay is None
    sandboxes = lab.SandboxFactory(cache=cache, network="task")
    with sandboxes.open(task) as box:
        assert box.relay is None  # the agent's box: the task asks for none
    verdict = lab.Evaluator(sandboxes, workers=1).grade(task, GOLD)
    assert verdict.resolved
    assert f"network of the verifier: 127.0.0.1:{server} let through (1 times)" in verdict.notes
    assert sandboxes.network_for(make_task(network="allow:pypi.org")) == "allow:pypi.org"
