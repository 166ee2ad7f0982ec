"""What the store costs: answers asked through it one by one, and stored ones found again.

    python benchmarks/store.py [--answers 100000] [--hits 1000000]

`asked` are answers of a model that takes no time, each committed before it is passed on; `puts`
are commits of one answer; `hits` are read 10,000 at once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from recbole_exp3rt.llm.base import Completion, Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import Store

AT_ONCE = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--hits", type=int, default=1_000_000)
    given = parser.parse_args()
    request = Request((Message("user", "Do you like this film? " * 40),), max_new_tokens=100)
    answer = Completion("because " * 60, label_logp=(-1.0,) * 10)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "asked.sqlite")
        asked = [Request((Message("user", f"{n}"),)) for n in range(given.answers)]
        start = time.perf_counter()
        count = sum(1 for _ in CachedLLM(ScriptedLLM(lambda _: "yes"), store).generate(asked))
        print(f"asked: {count / (time.perf_counter() - start):,.0f}/s")

        store = Store(Path(folder) / "puts.sqlite")
        start = time.perf_counter()
        for n in range(given.answers):
            store.put_many("bench", {f"{n:064x}": (request, answer)})
        print(f"puts: {given.answers / (time.perf_counter() - start):,.0f}/s")

        store = Store(Path(folder) / "hits.sqlite")
        keys = [f"{n:064x}" for n in range(given.hits)]
        some = [keys[first : first + AT_ONCE] for first in range(0, len(keys), AT_ONCE)]
        for part in some:
            store.put_many("bench", {key: (request, answer) for key in part})
        start = time.perf_counter()
        found = sum(len(store.get_many(part)) for part in some)
        seconds = time.perf_counter() - start
        print(f"hits: {found:,} in {seconds:.1f} s, {found / seconds:,.0f}/s")


if __name__ == "__main__":
    main()
