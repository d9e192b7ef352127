"""The viewer over HTTP: nothing without the token, nothing under a foreign name, read-only unless asked, inert text."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.viewer.app import notes, reentry
from swebench_lab.viewer.app.server import ViewServer
from tests.viewer.app.runs import hostile_attempt, write_runs


@pytest.fixture
def view(tmp_path: Path) -> Iterator[lab.View]:
    with lab.View(write_runs(tmp_path / "runs"), index=tmp_path / "index") as view:
        yield view


def ask(
    server: ViewServer, path: str, token: str = "", body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body)
    sent |= {"Content-Type": "application/json"} if data is not None and "Content-Type" not in sent else {}
    connection.request("GET" if data is None else "POST", path, data, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.headers), text


def test_nothing_is_answered_without_the_token(view: lab.View) -> None:
    server = view.serve()
    for path in ("/", "/view.js", "/api/runs", "/api/page?run=a&id=0", "/?token=wrong", "/api/runs?token="):
        status, _, text = ask(server, path)
        assert status == 401 and "runs" not in text.lower().replace("http", ""), path
    assert ask(server, "/api/note", body={})[0] == 401
    assert ask(server, "/api/runs", server.token)[0] == 200


def test_the_token_of_the_address_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(view: lab.View) -> None:
    server = view.serve()
    status, headers, _ = ask(server, f"/?token={server.token}")
    cookie = headers["Set-Cookie"]
    assert status == 303 and headers["Location"] == "./" and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert ask(server, "/api/runs", Cookie=cookie.split(";")[0])[0] == 200
    assert server.token not in ask(server, "/", server.token)[2]


def test_a_foreign_name_that_points_at_the_loopback_is_refused_unless_a_proxy_was_named(view: lab.View) -> None:
    server = view.serve()
    assert ask(server, "/api/runs", server.token, Host="evil.example")[0] == 421
    proxied = view.serve(base_url="user/ada/proxy/1")
    for path in ("/user/ada/proxy/1/api/runs", "/api/runs"):
        assert ask(proxied, path, proxied.token, Host="hub.example")[0] == 200, (
            "whether or not the proxy strips its path"
        )
    assert "Path=/user/ada/proxy/1/;" in ask(proxied, f"/user/ada/proxy/1/?token={proxied.token}")[1]["Set-Cookie"]
    assert proxied.url.startswith(f"http://127.0.0.1:{proxied.port}/user/ada/proxy/1/?token=")


def test_runs_are_only_read_unless_notes_were_asked_for(view: lab.View, tmp_path: Path) -> None:
    server = view.serve()
    row = json.loads(ask(server, "/api/attempts", server.token)[2])["rows"][0]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    note = {"run": row["run"], "id": row["id"], "note": "look here", "tags": ["odd", " odd ", "a,b"]}
    assert ask(server, "/api/note", server.token, note)[0] == 403
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before
    view.answers.writable = True
    assert ask(server, "/api/note", server.token, note)[0] == 200
    assert ask(server, "/api/note", server.token, note, Content_Type="text/plain")[0] == 401, (
        "what a foreign form can send"
    )
    assert notes.latest(tmp_path / "runs" / row["run"])[row["id"]]["tags"] == ["odd", "a b"]
    (kept,) = view.frame.filter(note="look here").to_dicts()
    assert kept["tags"] == "odd, a b"
    exported = json.loads(ask(server, "/api/notes", server.token)[2])
    assert [(one["run"], one["task"], one["note"]) for one in exported] == [(row["run"], row["task"], "look here")]


def test_steps_are_entered_only_where_sandboxes_were_given_and_players_answer_over_requests(
    view: lab.View, tmp_path: Path
) -> None:
    server = view.serve()
    row = json.loads(ask(server, "/api/attempts", server.token)[2])["rows"][0]
    where = {"run": row["run"], "id": row["id"], "step": 1}
    assert not json.loads(ask(server, "/api/about", server.token)[2])["reenter"]
    assert ask(server, "/api/enter", server.token, where)[0] == ask(server, "/api/tell", server.token, {})[0] == 403
    assert ask(server, "/api/news?player=x&after=0", server.token)[0] == 400
    with (
        lab.SandboxFactory("namespace") as sandboxes,
        lab.View(tmp_path / "runs", sandboxes=sandboxes, index=tmp_path / "two") as live,
    ):
        server = live.serve()
        assert ask(server, "/api/enter", body=where)[0] == 401
        assert ask(server, "/api/enter", server.token, {**where, "step": "x"})[0] == 400
        assert ask(server, "/api/enter", server.token, {**where, "id": "0"})[0] == 400
        opened = json.loads(ask(server, "/api/enter", server.token, where)[2])
        assert opened["state"]["detail"]["step"] == 1 and "submit as it is" in opened["state"]["policies"]
        again = json.loads(ask(server, "/api/enter", server.token, where)[2])
        assert again["player"] == opened["player"], "another page, and a reload, find the same player"
        messages = [{"do": "goto", "step": 0}, {"do": "nothing"}, "x", {"do": "key"}]
        assert ask(server, "/api/tell", server.token, {"player": opened["player"], "messages": messages})[0] == 200
        after, steps = opened["after"], list[int]()
        while not steps:
            told = json.loads(ask(server, f"/api/news?player={opened['player']}&after={after}", server.token)[2])
            after = told["after"]
            steps = [one["value"]["step"] for one in told["news"] if one.get("put") == "detail"]
        assert steps == [0]
        behind = json.loads(ask(server, f"/api/news?player={opened['player']}&after=-9", server.token)[2])
        assert behind["state"]["detail"]["step"] == 0, "who missed too much is told everything"
        assert live.answers.reentry is not None
        live.answers.reentry.close()
        assert ask(server, f"/api/news?player={opened['player']}&after={after}", server.token)[0] == 400


def test_players_that_nobody_listens_to_are_closed_and_no_more_than_four_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_runs(tmp_path / "runs")
    with (
        lab.SandboxFactory("namespace") as sandboxes,
        lab.View(folder, sandboxes=sandboxes, index=tmp_path / "index") as view,
    ):
        assert view.answers.reentry is not None
        where = [(row["run"], row["id"]) for row in view.frame.select("run", "id").head(6).to_dicts()]
        names = [view.answers.reentry.enter(run, name, 0)["player"] for run, name in where[:5]]
        with pytest.raises(lab.RecordError, match="enter the step again"):
            view.answers.reentry.tell(names[0], [])
        for name in names[1:]:
            view.answers.reentry.tell(name, [])
    monkeypatch.setattr(reentry, "FORGOTTEN", 0.4)
    with (
        lab.SandboxFactory("namespace") as sandboxes,
        lab.View(folder, sandboxes=sandboxes, index=tmp_path / "index") as view,
    ):
        assert view.answers.reentry is not None
        opened = view.answers.reentry.enter(*where[5], 0)
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            try:
                view.answers.reentry.tell(opened["player"], [])
            except lab.RecordError:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("nobody listens, and it is still open")


def test_notes_survive_an_index_that_is_lost(tmp_path: Path) -> None:
    folder = write_runs(tmp_path / "runs")
    with lab.View(folder, notes=True, index=tmp_path / "one") as view:
        run, name = view.frame.select("run", "id").row(0)
        view.catalogue.mark(run, name, "first", [])
        view.catalogue.mark(run, name, "second", ["t"])
    with lab.View(folder, index=tmp_path / "two") as view:
        assert view.frame.filter(id=name)["note"].to_list() == ["second"]


@pytest.mark.parametrize(
    "note",
    [
        {"note": "x" * 20_001, "tags": []},
        {"note": 1, "tags": []},
        {"note": "", "tags": "x"},
        {"note": "", "tags": ["x"] * 2 + [str(n) for n in range(40)]},
        {"note": "", "tags": [], "run": "../a"},
        {"note": "", "tags": [], "id": "0"},
    ],
)
def test_notes_that_cannot_be_kept_are_refused(tmp_path: Path, note: dict[str, object]) -> None:
    with lab.View(write_runs(tmp_path / "runs"), notes=True, index=tmp_path / "index") as view:
        run, name = view.frame.select("run", "id").row(0)
        assert view.answers.post("note", {"run": run, "id": name, **note}).status == 400


def test_hostile_text_reaches_the_page_as_text_and_an_attempt_stands_in_a_frame_without_an_origin(
    tmp_path: Path,
) -> None:
    RunDirectory(tmp_path / "runs").append(hostile_attempt(), "r")
    with lab.View(tmp_path / "runs", index=tmp_path / "index") as view:
        server = view.serve()
        status, headers, text = ask(server, "/api/attempts", server.token)
        row = json.loads(text)["rows"][0]
        assert "\x1b" not in row["task"] and "\u202e" not in row["policy"] and "<img" in row["policy"]
        assert headers["Content-Type"].startswith("application/json") and headers["X-Content-Type-Options"] == "nosniff"
        status, headers, text = ask(server, f"/api/page?run=runs&id={row['id']}", server.token)
        assert (
            status == 200
            and "<img" not in text
            and headers["Content-Security-Policy"].endswith("sandbox allow-scripts")
        )
        assert "default-src 'none'" in text
        status, headers, _ = ask(server, "/", server.token)
        assert (
            "unsafe" not in headers["Content-Security-Policy"]
            and "default-src 'none'" in headers["Content-Security-Policy"]
        )


def test_what_is_not_there_is_an_answer_and_no_traceback(view: lab.View) -> None:
    server = view.serve()
    for path, status in {
        "/api/nothing": 404,
        "/nothing": 404,
        "/../../etc/passwd": 404,
        "/api/page?run=a&id=0": 400,
        "/api/attempts?sort=x": 400,
        "/api/attempts?f.steps=x": 400,
        "/api/attempts?offset=x": 400,
        "/api/running?run=../x": 200,
        "/api/running-page?run=a&id=x": 400,
        "/api/compare?a=a&b=none": 400,
    }.items():
        assert ask(server, path, server.token)[0] == status, path


def test_a_taken_port_is_an_error_that_says_so(view: lab.View) -> None:
    server = view.serve()
    with pytest.raises(lab.ConfigError, match=f"port {server.port}.*--port"):
        view.serve(server.port)


def test_a_running_attempt_is_there_with_its_steps_and_gone_when_it_is_over(tmp_path: Path) -> None:
    whole = hostile_attempt().trajectory
    run = RunDirectory(tmp_path / "runs" / "now")
    journal = run.journal()
    journal.begin(replace(whole, steps=()))
    with lab.View(tmp_path / "runs", index=tmp_path / "index") as view:

        def running() -> list[dict[str, object]]:
            return json.loads(view.answers.get("running", {}).text)  # type: ignore[no-any-return]

        (row,) = running()
        assert row["steps"] == 0
        journal.step(whole.steps[0])
        (row,) = running()
        assert row["steps"] == 1
        page = view.answers.get("running-page", {"run": "now", "id": str(row["id"])})
        assert "still running: 1 steps" in page.text and 'id="step-0"' in page.text
        journal.end()
        assert running() == []
    run.release()
