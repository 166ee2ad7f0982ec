"""What a store costs: puts and look-ups a second by several processes, on SQLite and PostgreSQL.

    python benchmarks/store.py [--processes 1 2 4 8] [--seconds 5] [--postgres URL]
    python benchmarks/store.py --one [--answers 100000] [--hits 1000000]

`one` are commits of one answer, `in 32` commits of 32; `look-ups` are answers read 32 at once;
`asked` is `CachedLLM` around a model that takes no time: claims, commits, everything. An answer is
1.7 kB with its question. Without `--postgres` a server of its own is started, where one is
installed. With `--one`: a single process on one SQLite file, stored answers read 10,000 at once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_exp3rt.llm.base import Completion, Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import open_store

AT_ONCE = 10_000
GROUP = 32
KNOWN = 20_000  # answers that are looked up
REQUEST = Request((Message("user", "Do you like this film? " * 40),), max_new_tokens=100)
ANSWER = Completion("because " * 60, label_logp=(-1.0,) * 10)


def key(process: int, number: int) -> str:
    return f"{process:032x}{number:032x}"


def puts(place: str, process: int, seconds: float, group: int) -> int:
    store, done = open_store(place), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        some = {key(process, done + n): (REQUEST, ANSWER) for n in range(group)}
        store.put_many("bench", some)
        done += group
    return done


def lookups(place: str, process: int, seconds: float) -> int:
    store, done = open_store(place), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        first = (process * 7919 + done) % (KNOWN - GROUP)
        done += len(store.get_many([key(999, first + n) for n in range(GROUP)]))
    return done


def asked(place: str, process: int, seconds: float) -> int:
    llm, done = CachedLLM(ScriptedLLM(lambda _: ANSWER.text), open_store(place)), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = REQUEST.messages[0].content
        some = [Request((Message("user", f"{process} {done + n} {text}"),)) for n in range(GROUP)]
        done += sum(1 for _ in llm.generate(some))
    return done


WAYS: dict[str, tuple[Callable[..., int], tuple[int, ...]]] = {
    "one": (puts, (1,)),
    "in 32": (puts, (GROUP,)),
    "look-ups": (lookups, ()),
    "asked": (asked, ()),
}


def worker(way: str, start: Any, results: Any, *arguments: Any) -> None:
    what, more = WAYS[way]
    start.wait()
    results.put(what(*arguments, *more))


def rate(way: str, place: str, processes: int, seconds: float, run: int) -> float:
    """Answers a second of all processes together."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=worker, args=(way, start, results, place, 1000 * run + n, seconds))
        for n in range(processes)
    ]
    for one in workers:
        one.start()
    total = sum(results.get() for _ in workers)
    for one in workers:
        one.join()
    return total / seconds


def compare(places: dict[str, str], counts: list[int], seconds: float) -> None:
    print("| store | processes | " + " | ".join(f"{way}, a second" for way in WAYS) + " |")
    print("|---|---|" + "---|" * len(WAYS))
    run = 0
    for name, place in places.items():
        store = open_store(place)
        for first in range(0, KNOWN, 1_000):
            rows = range(first, first + 1_000)
            store.put_many("bench", {key(999, n): (REQUEST, ANSWER) for n in rows})
        store.close()
        for processes in counts:
            cells = []
            for way in WAYS:
                run += 1
                cells.append(f"{rate(way, place, processes, seconds, run):,.0f}")
            print(f"| {name} | {processes} | " + " | ".join(cells) + " |", flush=True)


def one_process(answers: int, hits: int, folder: Path) -> None:
    store = open_store(folder / "asked.sqlite")
    questions = [Request((Message("user", f"{n}"),)) for n in range(answers)]
    start = time.perf_counter()
    count = sum(1 for _ in CachedLLM(ScriptedLLM(lambda _: "yes"), store).generate(questions))
    print(f"asked: {count / (time.perf_counter() - start):,.0f}/s")

    store = open_store(folder / "puts.sqlite")
    start = time.perf_counter()
    for n in range(answers):
        store.put_many("bench", {key(0, n): (REQUEST, ANSWER)})
    print(f"puts: {answers / (time.perf_counter() - start):,.0f}/s")

    store = open_store(folder / "hits.sqlite")
    keys = [key(0, n) for n in range(hits)]
    some = [keys[first : first + AT_ONCE] for first in range(0, len(keys), AT_ONCE)]
    for part in some:
        store.put_many("bench", {name: (REQUEST, ANSWER) for name in part})
    start = time.perf_counter()
    found = sum(len(store.get_many(part)) for part in some)
    seconds = time.perf_counter() - start
    print(f"hits: {found:,} in {seconds:.1f} s, {found / seconds:,.0f}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("--one", action="store_true")
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--hits", type=int, default=1_000_000)
    given = parser.parse_args()
    folder, cluster = Path(tempfile.mkdtemp()), None
    try:
        if given.one:
            one_process(given.answers, given.hits, folder)
            return
        places = {"SQLite": str(folder / "answers.sqlite")}
        if given.postgres:
            places["PostgreSQL"] = given.postgres
        else:
            sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
            import postgres_server

            if programs := postgres_server.programs():
                cluster = postgres_server.Cluster(programs)
                places["PostgreSQL"] = cluster.database()
        compare(places, given.processes, given.seconds)
    finally:
        shutil.rmtree(folder)
        if cluster:
            cluster.remove()


if __name__ == "__main__":
    main()
