"""Networks of boxes: where tests are graded a few addresses never answer; everything else fails at once, everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.factory import SandboxFactory
from tests.boxes import make_snapshot

TIERS = ["namespace-root", "namespace-rootless"]
CONNECT = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM)
s.settimeout(float(sys.argv[2]))
began = time.perf_counter()
try:
    s.connect((sys.argv[1], 81))
except TimeoutError:
    print("timed out", end=" ")
except OSError as error:
    print(error.errno, end=" ")
print(time.perf_counter() - began)
"""
NEVER = ("10.255.255.1", "10.255.255.255", "192.0.2.1", "192.0.2.77")
AT_ONCE = ("10.255.254.1", "10.0.0.1", "192.0.3.1", "192.168.1.1", "198.51.100.1", "8.8.8.8", "169.254.169.254", "2001:db8::1",
           "127.0.0.1")  # fmt: skip


def connecting(box: Sandbox, address: str, patience: float) -> tuple[str, float]:
    said = box.run(["python3", "-c", CONNECT, address, str(patience)], timeout=60).output
    how, _, seconds = said.strip().rpartition(" ")
    return how, float(seconds)


@pytest.mark.parametrize("tier", TIERS)
def test_only_addresses_that_nobody_has_never_answer(tmp_path: Path, tier: str) -> None:
    with open_namespace(make_snapshot(tmp_path, {"a.py": ""}), tier=tier, network="dropping") as box:
        for address in NEVER[:3]:
            assert connecting(box, address, 0.4)[0] == "timed out", address
        for address in AT_ONCE:
            how, seconds = connecting(box, address, 20)
            assert how != "timed out" and seconds < 0.05, (address, how, seconds)
        server = 'python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 & sleep 1; python3 -c "import urllib.request as r; '
        assert box.run(server + "print(r.urlopen('http://127.0.0.1:8000').status)\"; kill %1").output.startswith("200")
        again = box.fork()
        assert connecting(again, NEVER[0], 0.4)[0] == "timed out", "a fork has the same network"
        again.close()


@pytest.mark.parametrize("tier", TIERS)
def test_in_an_agents_box_every_address_fails_at_once(tmp_path: Path, tier: str) -> None:
    with open_namespace(make_snapshot(tmp_path, {"a.py": ""}), tier=tier) as box:
        for address in (*NEVER, *AT_ONCE):
            how, seconds = connecting(box, address, 20)
            assert how != "timed out" and seconds < 0.05, (address, how, seconds)


def test_boxes_that_grade_have_it_where_their_backend_can() -> None:
    assert SandboxFactory("namespace").grading_network == "dropping"
    assert SandboxFactory("landlock").grading_network == "none"
    assert SandboxFactory("namespace", network="host").grading_network == "host"
