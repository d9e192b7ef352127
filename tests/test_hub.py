"""A real JupyterHub with two unix users: one shared cache, nothing of each other's in sight, quotas, and a culled kernel."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM
from tests.hub import ROOT, USERS, Hub, Kernel, free_ports
from tests.jupyter import IDLE_PAGE

PREFIX = os.environ.get("SWEBENCH_LAB_HUB", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PREFIX, reason="set SWEBENCH_LAB_HUB to an environment with JupyterHub (docs/hub.md)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a hub that starts servers of other unix users takes root"),
    pytest.mark.skipif(not shutil.which("useradd"), reason="needs useradd, to make the users of the hub"),
]
QUOTA = '[everybody]\nsandboxes = 5\nwait = 3\nmemory = "2 GiB"\ndisk = "20 GiB"\n'
IDLE = 5  # seconds
BOX = """
tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
sandboxes = lab.SandboxFactory("namespace")
box = sandboxes.open(tasks[0])
box.write("private.txt", "secret-of-" + who)
session = box.session()
import os; print(os.getpid())
"""


@pytest.fixture(scope="module")
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with Hub(Path(PREFIX), QUOTA) as made:
        began = time.monotonic()
        made.keep(
            "import swebench_lab as lab; tasks = lab.load_tasks('demo')\n"
            "train, test = tasks.split(test=0.2, seed=0)\n"
            "chosen = lab.Tasks([*train.sample(4, seed=0), *tasks.sample(3, seed=1)], 'shared')\n"
            "with lab.SandboxFactory('namespace') as sandboxes: print(sandboxes.prepare(chosen))"
        )
        packs = list((made.folder / "shared/packs").rglob("*.tar.gz"))
        size = sum(path.stat().st_size for path in packs)
        print(f"shared cache: {len(packs)} packs, {size / 1e6:.0f} MB, built in {time.monotonic() - began:.0f} s")
        for user in USERS:
            print(f"server of {user}: {made.start(user):.1f} s")
        yield made
        if request.session.testsfailed:
            print(made.log())


def kernels(hub: Hub) -> list[Kernel]:
    for user in USERS:
        if not hub.ready(user):
            hub.start(user)
    return [hub.kernel(user) for user in USERS]


def cells(name: str) -> list[str]:
    notebook = json.loads((ROOT / "notebooks" / name).read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_two_users_run_the_quickstart_at_once_from_one_shared_cache(hub: Hub) -> None:
    both = kernels(hub)
    began = time.monotonic()
    shown: dict[str, list[str]] = {user: [] for user in USERS}
    for source in cells("00_quickstart.ipynb"):
        numbers = [kernel.send(source) for kernel in both]
        for kernel, number in zip(both, numbers, strict=True):
            said, error = kernel.result(number)
            assert not error, f"{kernel.user}: {error} in {source}"
            shown[kernel.user].append(said)
    print(f"quickstart by two users at once: {time.monotonic() - began:.0f} s")
    rows = "import json; print(sorted((r.task.id, r.trajectory.attempt, r.verdict.status) for r in lab.attach('runs/first')))"
    results = [kernel.run(rows) for kernel in both]
    assert results[0] == results[1] and "resolved" in results[0] and "not graded" not in results[0]
    for user in USERS:
        whole = "\n".join(shown[user])
        assert "packs" in whole and "5 sandboxes" in whole, "the doctor tells of what is shared and of quotas"
        assert "hub-secret" not in whole and hub.token not in whole
        cache = hub.home(user) / ".cache/swebench_lab"
        markers = [json.loads(path.read_text()) for path in cache.glob("envs/*/complete.json")]
        assert markers, "an environment of the user's own"
        owner = pwd.getpwnam(user).pw_uid
        assert all(path.lstat().st_uid == owner for path in (cache / "envs").rglob("*"))
        assert not list((cache / "bases").glob("*")), "nothing was built: all came out of the packs"
    for kernel in both:
        kernel.close()


def test_nobody_sees_reads_or_kills_what_is_anothers(hub: Hub) -> None:
    ada, bob = kernels(hub)
    for kernel in (ada, bob):
        kernel.run(f"import swebench_lab as lab; who = {kernel.user!r}" + BOX)
    theirs, home = hub.processes(USERS[0]), pwd.getpwnam(USERS[0]).pw_dir
    number = pwd.getpwnam(USERS[0]).pw_uid
    seen = bob.run(
        f"theirs, number, home = {theirs}, {number}, {home!r}\n"
        "import os, signal, subprocess\n"
        "def refused(what):\n"
        "    try: return f'did: {what()!r}'\n"
        "    except OSError as error: return type(error).__name__\n"
        "print('in ps', subprocess.run(['ps', '-eo', 'pid,uid,args'], capture_output=True, text=True).stdout.count(str(number)))\n"
        "print('listed', [p for p in os.listdir('/proc') if p.isdigit() and int(p) in theirs])\n"
        "print('entered', {refused(lambda: os.listdir(f'/proc/{p}/root/testbed')) for p in theirs})\n"
        "print('killed', {refused(lambda: os.kill(p, signal.SIGKILL)) for p in theirs})\n"
        "print('home', refused(lambda: os.listdir(home)))\n"
        "print('temporary', refused(lambda: os.listdir(f'/tmp/swebench-lab-{number}')))\n"
        "print('in the box', box.run(\"ps aux 2>/dev/null | grep -c '[l]ab-ada'; ls /proc | grep -c ^[0-9]\").output.split())\n"
        f"print('kill in the box', box.run('for p in {' '.join(map(str, theirs))}; do kill -9 $p 2>/dev/null && echo killed; done; true').output.split())\n"
        "print('found', 'secret-of-lab-ada' in box.run('grep -rs secret-of-lab-ada / --include=private.txt; true').output)\n"
    )
    said = dict(
        line.split(" ", 1) for line in seen.replace("in ps", "ps").replace("in the box", "box").splitlines() if line
    )
    print(f"{len(theirs)} processes of {USERS[0]}; what {USERS[1]} gets: {seen}")
    assert said["ps"] == "0" and said["listed"] == "[]"
    assert said["killed"] == "{'PermissionError'}" and said["home"] == "PermissionError"
    assert set(said["entered"].strip("{}").replace("'", "").split(", ")) <= {"PermissionError", "FileNotFoundError"}
    assert said["temporary"] in ("PermissionError", "FileNotFoundError")
    assert said["box"].startswith("['0', ") and "killed" not in said["kill"].split(" ", 3)[-1]
    assert said["found"] == "False"
    assert set(theirs) <= set(hub.processes(USERS[0]))
    assert ada.run("print(box.read('private.txt'))").strip() == "secret-of-lab-ada"
    for kernel in (ada, bob):
        kernel.run("box.close(); sandboxes.close()")
        kernel.close()


def test_a_quota_that_is_exceeded_is_named_and_is_nobody_elses(hub: Hub) -> None:
    ada, bob = kernels(hub)
    ada.run("who = 'ada'; import swebench_lab as lab" + BOX + "boxes = [box.fork() for _ in range(4)]")
    began = time.monotonic()
    _, error = ada.result(ada.send("sandboxes.open(tasks[0])"))
    print(f"after {time.monotonic() - began:.1f} s: {error}")
    assert error.startswith("QuotaExceeded: quota of sandboxes exceeded: opening a sandbox: all 5")
    bob.run("who = 'bob'; import swebench_lab as lab" + BOX + "box.close()")
    second = hub.kernel(USERS[0])  # places are counted over all kernels of a user
    _, error = second.result(second.send("who = 'ada'; import swebench_lab as lab" + BOX))
    assert error.startswith("QuotaExceeded")
    row = second.run(FULL).strip()
    print(f"a verdict of a user whose places are taken: {row}")
    assert row.startswith("not graded") and "quota of sandboxes exceeded" in row
    ada.run("boxes.pop().close()")
    second.run("box = sandboxes.open(tasks[0]); box.close()")
    ada.run("[b.close() for b in boxes]; box.close()")
    for kernel in (ada, bob, second):
        kernel.close()


FULL = """
verdict = lab.Evaluator(sandboxes).grade(tasks[0], tasks[0].gold_patch)
print(verdict.status, "|", verdict.reason)
"""
ABLATION = """
import swebench_lab as lab
real = lab.sweep("quickstart", {"noise": [0.0, 1.0]}, seeds=[0], metric="noisy.per_task", preset="smoke",
                 run_dir=f"runs/noise-{who}", n_tasks=2, workers=2, progress=False)
frame = real.to_frame()
print(sorted(frame["status"].to_list()), real.verdicts().height)
"""
FEW = """
import swebench_lab as lab
tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
collector = lab.RolloutCollector(lab.SandboxFactory("namespace"), run_dir=f"runs/of-{who}")
print(len(collector.collect(lab.Agent(lab.Teacher(tasks)), tasks, progress=False)))
"""
VIEW = """
import os
import swebench_lab as lab
view = lab.View("runs")
server = view.serve(port, os.environ["JUPYTERHUB_SERVICE_PREFIX"] + f"proxy/{port}/")
print(server.token)
"""
RUNS_ON_THE_PAGE = "[...(%s).querySelectorAll('td.id')].map((one) => one.textContent)"
WIDGET = "document.querySelector('[data-lm-suppress-shortcuts]')?.shadowRoot"


def test_two_users_run_an_ablation_at_once(hub: Hub) -> None:
    both = kernels(hub)
    began = time.monotonic()
    numbers = [kernel.send(f"who = {kernel.user!r}" + ABLATION) for kernel in both]
    results = [kernel.result(number) for kernel, number in zip(both, numbers, strict=True)]
    print(f"an ablation each, at once: {time.monotonic() - began:.0f} s: {results}")
    assert results[0] == results[1] == ("['completed', 'completed'] 2\n", "")
    for kernel in both:
        kernel.close()


def test_the_viewer_of_each_user_shows_that_users_runs_alone_by_both_doors(hub: Hub) -> None:
    both = kernels(hub)
    for kernel in both:
        assert kernel.run(f"who = {kernel.user!r}" + FEW).split()[-1] == "1"
    ports = free_ports(2)
    views = [kernel.run(f"port = {port}" + VIEW).strip() for kernel, port in zip(both, ports, strict=True)]
    tokens = [hub.token_of(user) for user in USERS]
    for mine, other in ((0, 1), (1, 0)):
        path = f"/user/{USERS[mine]}/proxy/{ports[mine]}/"
        status, cookie, _ = hub.answer(f"{path}?token={views[mine]}", tokens[mine])
        assert status == 303 and cookie, "the token of the address becomes a cookie behind the hub's proxy, too"
        status, _, text = hub.answer(f"{path}api/runs", tokens[mine], cookie)
        runs = [run["run"] for run in json.loads(text)["runs"]]
        assert status == 200 and any(f"of-{USERS[mine]}" in run for run in runs)
        assert USERS[other] not in text
        assert hub.answer(f"{path}api/runs", tokens[mine])[0] == 401, "the hub's token alone is not the viewer's"
        assert hub.answer(f"{path}api/runs", tokens[other], cookie)[0] in (403, 404), "nor is the viewer's the hub's"
        knock = (
            "import urllib.request, urllib.error\n"
            f"try: print(urllib.request.urlopen('http://127.0.0.1:{ports[mine]}/').status)\n"
            "except urllib.error.HTTPError as error: print(error.code)\n"
            f"try: lab.View('/home/{USERS[mine]}/runs')\n"
            "except lab.RecordError as error: print('RecordError')"
        )
        assert both[other].run(knock).split() == ["401", "RecordError"]
    if CHROMIUM:
        _both_doors_in_a_browser(hub, USERS[0], f"proxy/{ports[0]}/?token={views[0]}")
    for kernel in both:
        kernel.run("view.close()")
        kernel.close()


def _both_doors_in_a_browser(hub: Hub, user: str, door: str) -> None:
    """Log in as a user, see the viewer below a cell, then behind the proxy."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    source = "import swebench_lab as lab\nlab.View('runs', index='index')"
    whole = {"cells": [{**cell, "source": source}], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    notebook = hub.home(user) / "view.ipynb"
    notebook.write_text(json.dumps(whole))
    os.chown(notebook, hub.home(user).stat().st_uid, hub.home(user).stat().st_gid)
    with hub.page(user, "lab/tree/view.ipynb") as browser:
        browser.wait_for(IDLE_PAGE, 180)
        browser.eval("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        browser.wait_for(f"{WIDGET}?.querySelector('tr[data-open]') != null", 120)
        below = browser.eval(RUNS_ON_THE_PAGE % WIDGET)
        browser.call("Page.navigate", url=f"{hub.address}/user/{user}/{door}")
        browser.wait_for("document.querySelector('tr[data-open]') !== null", 60)
        behind = browser.eval(RUNS_ON_THE_PAGE % "document")
        assert below == behind and any(f"of-{user}" in run for run in below)
        assert "token=" not in browser.eval("location.href")
        browser.eval("document.querySelector('td.id a').click()")
        browser.wait_for("document.querySelector('td.id a[href^=\"#attempt?\"]') !== null")
        browser.eval("document.querySelector('td.id a').click()")
        browser.wait_for("document.querySelector('.at-step')?.textContent === '0'", 60)


COLLECT = """
import swebench_lab as lab
tasks = lab.load_tasks("demo").sample(3, seed=1)
sandboxes = lab.SandboxFactory("namespace")
collector = lab.RolloutCollector(sandboxes, workers=2, run_dir="runs/culled")
teacher = lab.Agent(lab.Teacher(tasks))
"""
ATTEMPTS = 24


def test_a_culled_kernel_loses_nothing_and_its_collection_is_resumed(hub: Hub) -> None:
    ada, bob = kernels(hub)
    bob.close()
    ada.run(COLLECT)
    ada.send(f"collector.collect(teacher, tasks, attempts={ATTEMPTS}, progress=False)")
    rows = hub.home(USERS[0]) / "runs/culled/attempts.jsonl"
    ends = time.monotonic() + 120
    while not rows.exists() or rows.read_text().count("\n") < 5:
        assert time.monotonic() < ends
        time.sleep(0.2)
    ada.close()  # the page is closed in the middle of the collection
    with hub.culler(IDLE):
        while hub.ready(USERS[0]):
            assert time.monotonic() < ends + 120, "the culler never came"
            time.sleep(0.5)
    ends = time.monotonic() + 30
    while hub.processes(USERS[0]):
        assert time.monotonic() < ends, "sandboxes outlived their kernel"
        time.sleep(0.2)
    before = rows.read_text().count("\n")
    assert 5 <= before < 3 * ATTEMPTS, "it was culled in the middle"
    hub.start(USERS[0])
    again = hub.kernel(USERS[0])
    attached = int(again.run("import swebench_lab as lab; print(len(lab.attach('runs/culled')))"))
    assert attached >= before - 1
    again.run(COLLECT)
    number = again.send(f"done = collector.collect(teacher, tasks, attempts={ATTEMPTS}, progress=False)")
    _, error = again.result(number)
    assert not error
    told = again.run("print(len(done), len(done.resolved), collector.executed)").split()
    print(f"culled with {before} of {3 * ATTEMPTS} rows; attached {attached}; resumed: {told}")
    assert told[:2] == [str(3 * ATTEMPTS)] * 2 and int(told[2]) == 3 * ATTEMPTS - attached
    again.close()
