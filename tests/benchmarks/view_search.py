"""Benchmark of the viewer's table: what its index costs, and how long searches, orders and filters take over HTTP.

python -m tests.benchmarks.view_search RUNS --index FILE

RUNS is any folder of runs, such as the one that `run_store --keep` leaves. A query is all that the page asks for when its
table is drawn: rows, choices, running attempts and the state of the runs, at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import swebench_lab as lab
from swebench_lab.viewer.app.words import words_of

Asked = dict[str, str]


def queries(view: lab.View, count: int, seed: int) -> dict[str, list[Asked]]:
    """Return queries by kind: words of one attempt, of many, of none, phrases, orders and filters."""
    chance = random.Random(seed)
    rows = view.catalogue.ask("SELECT * FROM attempts ORDER BY place")
    rare, common, phrases = [], [], []
    for row in chance.sample(rows, min(count, len(rows))):
        text = words_of(view.catalogue.open(row["run"], row["id"]), row)
        words = re.findall(r"[a-z]{3,}", text)
        rare.append({"q": chance.choice(re.findall(r"[0-9a-f]{14,}", text) or words)})
        common.append({"q": chance.choice(words), "sort": chance.choice(["-reward", "", "task"])})
        at = chance.randrange(len(words) - 1)
        phrases.append({"q": f'"{words[at]} {words[at + 1]}"'})
    columns = ["seconds", "-completion_tokens", "task", "-started_at", "steps", "-reward", "policy", "patch_bytes"]
    return {
        "rare": rare,
        "common": common,
        "absent": [{"q": f"absent{chance.getrandbits(40):x}"} for _ in range(count)],
        "phrase": phrases,
        "sort": [{"sort": chance.choice(columns), "offset": str(chance.choice([0, 0, 400]))} for _ in range(count)],
        "filter": [{"f.reward": ">0.5", "f.task": str(chance.randrange(100)), "sort": "-reward"} for _ in range(count)],
    }


def built(view: lab.View) -> dict[str, float]:
    """Read all words into the index; return what that took."""
    begin, used = time.perf_counter(), time.process_time()
    while view.catalogue.ask("SELECT 1 FROM attempts WHERE words = 0 LIMIT 1"):
        time.sleep(0.2)
    return {
        "words: s": time.perf_counter() - begin,
        "words: s of processors": time.process_time() - used,
        "MB of memory at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> None:
    """Build the index, ask, and print milliseconds by kind of query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--count", type=int, default=50, help="queries in all")
    given = parser.parse_args()
    begin = time.perf_counter()
    with lab.View(given.runs, index=given.index) as view, ThreadPoolExecutor(4) as pool:
        facts = {"attempts": float(len(view.frame)), "rows: s": time.perf_counter() - begin, **built(view)}
        facts["MB of the index"] = (
            sum(file.stat().st_size for file in given.index.parent.glob(given.index.name + "*")) / 1e6
        )
        server = view.serve()

        def ask(what: str, asked: Asked) -> int:
            address = f"http://127.0.0.1:{server.port}/api/{what}?{urlencode(asked)}"
            request = urllib.request.Request(address, headers={"Authorization": f"Bearer {server.token}"})
            with urllib.request.urlopen(request) as answer:
                return int((json.load(answer).get("counts") or {}).get("attempts", 0) if what == "attempts" else 0)

        took: dict[str, list[float]] = {}
        used: list[float] = []
        hits: dict[str, list[int]] = {}
        for kind, asks in queries(view, -(-given.count // 6), 0).items():
            for asked in asks:
                begin, worked = time.perf_counter(), time.process_time()
                sent = [pool.submit(ask, what, asked) for what in ("attempts", "facets", "running", "runs")]
                hits.setdefault(kind, []).append(sent[0].result())
                for one in sent:
                    one.result()
                took.setdefault(kind, []).append(1e3 * (time.perf_counter() - begin))
                used.append(1e3 * (time.process_time() - worked))
    for name, value in facts.items():
        print(f"{name:26} {value:.1f}")
    for kind, times in took.items():
        print(
            f"{kind:26} median {sorted(times)[len(times) // 2]:.0f} ms, slowest {max(times):.0f} ms; hits {hits[kind]}"
        )
    everything = sorted(one for times in took.values() for one in times)
    print(f"{'all ' + str(len(everything)):26} 95th percentile {everything[int(0.95 * len(everything))]:.0f} ms")
    print(f"{'of processors':26} 95th percentile {sorted(used)[int(0.95 * len(used))]:.0f} ms, asking included")
    print(f"{'load of the machine':26} {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
