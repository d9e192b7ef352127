"""NeMo Gym itself finds our provider by its entry point and drives it through its own sandbox API."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import swebench_lab as lab

pytest.importorskip("nemo_gym", reason="needs NeMo Gym: make integrations")

from nemo_gym.sandbox.api import AsyncSandbox, Sandbox
from nemo_gym.sandbox.providers.base import SandboxCreateError, SandboxSpec, SandboxStatus
from nemo_gym.sandbox.providers.registry import create_provider, list_providers

from swebench_lab.integrations.nemo_gym import NemoGymProvider


def spec(**fields: object) -> SandboxSpec:
    options = {"task": lab.load_tasks("demo").ids[0], **fields.pop("provider_options", {})}  # type: ignore[dict-item]
    return SandboxSpec(provider_options=options, **fields)  # type: ignore[arg-type]


def test_it_is_found_by_its_entry_point() -> None:
    assert "swebench_lab" in list_providers()
    assert isinstance(create_provider({"swebench_lab": {"tasks": "demo"}}), NemoGymProvider)


def test_its_own_api_runs_commands_moves_files_and_ends_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "up.txt").write_text("up\n")

    async def go() -> None:
        sandbox = AsyncSandbox({"swebench_lab": {}})
        await sandbox.start(spec(env={"WHO": "me"}, files={"notes/a.txt": "hello"}))
        ran = await sandbox.exec("cat notes/a.txt; echo $WHO $X; pwd; echo no >&2; exit 3", env={"X": "1"})
        assert (ran.stdout, ran.stderr, ran.return_code, ran.error_type) == ("hellome 1\n/testbed\n", "no\n", 3, None)
        assert (await sandbox.exec("pwd", cwd="/tmp")).stdout == "/tmp\n"
        await sandbox.upload(tmp_path / "up.txt", "/tmp/deep/up.txt")
        await sandbox.download("/tmp/deep/up.txt", tmp_path / "down" / "up.txt")
        assert (tmp_path / "down/up.txt").read_text() == "up\n"
        assert await sandbox.status() == SandboxStatus.RUNNING
        late = await sandbox.exec("echo first; sleep 30", timeout_s=1)
        assert (late.stdout, late.error_type) == ("first\n", "timeout") and late.return_code != 0
        assert (await sandbox.exec("pwd", cwd="/nowhere")).error_type == "path"
        assert (await sandbox.exec("true", user="somebody")).error_type == "unsupported_user"
        await sandbox.stop()

    asyncio.run(go())


def test_its_blocking_api_works_from_plain_code() -> None:
    with Sandbox({"swebench_lab": {}}) as sandbox:
        sandbox.start(spec(workdir="/work/place"))
        assert sandbox.exec("pwd").stdout == "/work/place\n"


def test_a_task_is_solved_in_it_and_forks_go_their_own_ways() -> None:
    task = lab.load_tasks("demo")[0]

    async def go() -> str:
        provider = create_provider({"swebench_lab": {}})
        handle = await provider.create(spec())
        await provider.exec(handle, f"git apply - <<'PATCH'\n{task.gold_patch}PATCH")
        then = await provider.checkpoint(handle)
        other = await provider.fork(handle, then)
        await provider.exec(handle, "git checkout -q .")
        patches = [handle.raw.diff(), other.raw.diff()]
        await provider.close(handle)
        await provider.close(handle)
        assert await provider.status(handle) == SandboxStatus.STOPPED
        assert (await provider.exec(handle, "true")).error_type == "sandbox"
        await provider.aclose()
        assert other.raw.closed and patches[0] == ""
        return patches[1]

    evaluator = lab.Evaluator(lab.SandboxFactory())
    assert evaluator.grade(task, asyncio.run(go())).resolved


def test_what_cannot_be_had_is_refused_by_name_and_a_sandbox_ends_with_its_time() -> None:
    async def go() -> None:
        provider = create_provider({"swebench_lab": {}})
        with pytest.raises(SandboxCreateError, match="no-such-task"):
            await provider.create(spec(provider_options={"task": "no-such-task"}))
        with pytest.raises(SandboxCreateError, match="GPU"):
            await provider.create(spec(resources={"gpu": 1}))
        with pytest.raises(SandboxCreateError, match="tsaks"):
            await provider.create(spec(provider_options={"tsaks": "demo"}))
        with pytest.raises(SandboxCreateError, match="image"):
            await provider.create(SandboxSpec())
        handle = await provider.create(spec(ttl_s=0.5, resources={"memory_mib": 512, "cpu": 1}))
        began = time.monotonic()
        while await provider.status(handle) != SandboxStatus.STOPPED:
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.1)

    asyncio.run(go())
