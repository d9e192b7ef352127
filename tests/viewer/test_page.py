"""The static page: what it shows, and that nothing hostile in a record becomes live."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from swebench_lab.records.rollout import Rollouts
from swebench_lab.records.step_kind import Kind, kind_of
from swebench_lab.viewer.index import index_page, write_pages
from swebench_lab.viewer.page import page
from tests.samples import GOLD, a_rollout, a_step, a_task, some_rollouts, some_steps

HOSTILE = (
    "</script></style></pre><script>alert(1)</script><img src=x onerror=alert(1)>"
    "<a href='javascript:alert(1)'>x</a>\"' onload=alert(1) "
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://evil.example/\x1b\\link\x00\x08 \u202egnp.exe \ud800 &lt;"
)


class Reader(HTMLParser):
    """Collects the elements and attributes of a page, as a browser's parser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if a.get("id")]  # type: ignore[misc]


def test_a_page_shows_the_whole_attempt() -> None:
    rollout = a_rollout("unresolved")
    html = re.sub(r'<i class="\w">|</i>', "", page(rollout))  # words in colours
    for said in (
        "demo__textgrid.0001",
        "unresolved",
        "1 of 2 tests that must start to pass do not",
        "noisy-teacher",
        "submitted",
        "namespace-root",
        "Columns are too narrow",
        "python -m pytest -q",
        "exit 1",
        "timed out",
        "1 min 00 s",
        "Found 2 calls.",
        "+            widths[index] = max(widths[index], len(cell))",
        "tests/test_layout.py::test_empty",
        "identical to the gold patch",
    ):
        assert said in html, said


def test_every_step_has_a_link_in_the_rail_and_an_id_of_its_own() -> None:
    read = Reader(page(a_rollout()))
    steps = [i for i in read.ids if i.startswith("step-")]
    assert steps == [f"step-{n}" for n in range(7)]
    assert len(set(read.ids)) == len(read.ids)
    hrefs = [a.get("href") for a in read.all("a")]
    assert all(f"#{step}" in hrefs for step in steps)
    assert all(str(href).removeprefix("#") in read.ids for href in hrefs)


def hostile_pages() -> list[str]:
    task = replace(a_task(f"demo__{HOSTILE}", f"demo/{HOSTILE}", HOSTILE), gold_patch=GOLD + HOSTILE)
    arguments = {"command": HOSTILE, "path": HOSTILE, "old_str": HOSTILE, "new_str": HOSTILE, HOSTILE: HOSTILE}
    steps = (
        a_step(0, command=HOSTILE, observation=HOSTILE, thought=HOSTILE, text=HOSTILE, cwd=HOSTILE, limit=HOSTILE),
        a_step(1, tool="str_replace_editor", arguments=arguments, observation=HOSTILE * 200),
        a_step(2, tool=HOSTILE, arguments=arguments),
        a_step(3, tool="", text=HOSTILE),
    )
    rollout = a_rollout("unresolved", task, policy=HOSTILE, steps=steps, patch=GOLD + HOSTILE)
    said = replace(rollout.trajectory, error=HOSTILE, stop=HOSTILE, tier=HOSTILE, snapshot=HOSTILE)
    tests = {**rollout.verdict.tests, HOSTILE: HOSTILE}
    verdict = replace(rollout.verdict, reason=HOSTILE, log=HOSTILE, notes=(HOSTILE,), tests=tests)
    rollout = replace(rollout, trajectory=said, verdict=verdict)
    return [page(rollout), index_page([rollout], [f"javascript:{HOSTILE[:40]}"])]


def test_hostile_text_stays_text() -> None:
    for html in hostile_pages():
        read = Reader(html)
        assert len(read.all("script")) == html.count('id="live"') <= 1
        assert len(read.all("style")) == 1
        assert {name for name, _ in read.elements}.isdisjoint(
            {"img", "iframe", "object", "link", "base", "svg", "embed"}
        )
        assert not [a for _, attributes in read.elements for a in attributes if a.startswith("on") or a == "style"]
        assert all(not str(a.get("href")).startswith("javascript:") for a in read.all("a"))


def test_terminal_sequences_and_text_that_turns_round_are_neutralised() -> None:
    for html in hostile_pages():
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", html)
        assert "⟦U+202E⟧" in html
        assert "evil.example" not in html
        html.encode("utf-8")


def test_the_policy_allows_our_own_script_and_style_and_no_loading() -> None:
    for html in (*hostile_pages(), page(a_rollout())):
        allowed = next(a["content"] for a in Reader(html).all("meta") if a.get("http-equiv"))
        assert allowed is not None and allowed.startswith("default-src 'none'") and "unsafe" not in allowed
        for kind in ("script", "style"):
            for text in re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL):
                digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
                assert f"{kind}-src 'sha256-{digest}'" in allowed


def test_a_page_refers_to_nothing_outside_itself() -> None:
    html = page(a_rollout())
    for attributes in (attributes for _, attributes in Reader(html).elements):
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith("#")
    assert "url(" not in html and "@import" not in html


def test_long_texts_are_folded_and_nothing_of_them_is_lost_or_doubled() -> None:
    lines = [f"line {n:05d}" for n in range(3000)]
    html = page(a_rollout(steps=(a_step(0, observation="\n".join(lines)),)))
    assert all(html.count(line) == 1 for line in lines)
    assert html.index("line 00000") < html.index("<details class='rest'>") < html.index("line 01500")
    wide = page(a_rollout(steps=(a_step(0, observation="x" * 100_000),)))
    assert sum(map(len, re.findall("x{100,}", wide))) == 100_000


def test_an_attempt_without_steps_patch_or_log_has_a_page() -> None:
    html = page(a_rollout("not graded", steps=(), patch=""))
    assert "No step was taken." in html and "no file was changed" in html and "the sandbox died" in html


def test_lines_of_a_hunk_are_never_taken_for_headers() -> None:
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- old flag\n+++ new flag\n context\n"
    html = page(a_rollout(patch=patch))
    assert '<span class="d">--- old flag</span>' in html and '<span class="a">+++ new flag</span>' in html
    assert '<span class="m">--- a/x</span>' in html


def test_kinds_of_steps() -> None:
    assert [kind_of(step) for step in some_steps()] == ["read", "read", "run", "malformed", "edit", "run", "submit"]
    for command, kind in {
        "cd src && grep -rn 'a > b' . | head": Kind.READ,
        "python -m pytest -q 2>&1 | tail -5": Kind.RUN,
        "sed -i 's/a/b/' x.py": Kind.EDIT,
        "cat > x.py <<'EOF'\nprint(1)\nEOF": Kind.EDIT,
        "find . -name '*.py' 2>/dev/null": Kind.READ,
        "git diff": Kind.READ,
        "git checkout -- x.py": Kind.EDIT,
        "FOO=1 make test": Kind.RUN,
        "cat x.py; python x.py": Kind.RUN,
    }.items():
        assert kind_of(a_step(0, command=command)) == kind, command


def test_the_index_lists_every_attempt_and_its_pages_exist(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rollouts = Rollouts([*some_rollouts(), *some_rollouts("teacher")])
    index = write_pages(rollouts, tmp_path / "attempts")
    links = [a["href"] for a in Reader(index.read_text("utf-8")).all("a")]
    assert len(set(links)) == len(rollouts) == 24
    for link in links:
        assert "Steps" in (index.parent / str(link)).read_text("utf-8")


def test_pages_of_hostile_names_stay_in_their_folder(tmp_path) -> None:  # type: ignore[no-untyped-def]
    task = a_task("../../../etc/passwd")
    folder = tmp_path / "deep" / "attempts"
    rollouts = [a_rollout(task=task, policy="../.."), a_rollout(task=task, policy="../..", patch="")]
    rollouts[1] = replace(rollouts[1], trajectory=replace(rollouts[1].trajectory, agent="another"))
    write_pages(rollouts, folder)
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) == 3 and all(folder in p.parents for p in written)


def test_of_a_very_long_attempt_the_folded_parts_are_stored_compressed_and_whole() -> None:
    observation = "\n".join(f"{n} </script><script>alert(1)</script> \x1b[31m{n}" for n in range(30_000))
    html = page(a_rollout(steps=tuple(a_step(n, observation=observation) for n in range(4))))
    assert len(html) < 2_000_000 < 4 * len(observation)
    packed = re.findall(r'<script type="text/plain" id="pack-\d">([A-Za-z0-9+/=]+)</script>', html)
    assert len(packed) == 4 and html.count("<script") == 5
    assert html.index("performance.mark") < html.index(packed[0]), "the page is usable before they are there"
    assert re.findall(r'class="packed" data-pack="(\d)"', html) == ["0", "1", "2", "3"]
    middle = gzip.decompress(base64.b64decode(packed[0])).decode()
    assert "\n15000 </script><script>alert(1)</script> 15000\n" in middle and "\x1b" not in middle


def test_a_page_shows_what_each_step_changed() -> None:
    html = page(a_rollout(), ["", "diff --git a/q.py b/q.py\n@@ -1 +1 @@\n-old <b>\n+new\n"])
    assert html.count("what it changed: 4 lines") == 1
    assert '<span class="d">-old &lt;b&gt;</span><span class="a">+new</span>' in html
