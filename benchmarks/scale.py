"""What a cluster costs beside the model: questions a second of the driver and of the bulk flow.

    python benchmarks/scale.py [--workers 1 2 4 8] [--questions N] [--reviews N] [--postgres URL]

The model costs nothing: it answers at once. `driver` is `RayLLM` alone, as with `--workers=ray`,
without a store; `flow` is the step `preferences` of `exp3rt scale` with a store: read parquet, ask,
commit, write parquet. Bytes are those of pickled requests and answers, of a prompt of the sample.
What the store does alone: benchmarks/store.py.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_exp3rt.cluster import rows
from recbole_exp3rt.cluster.asking import Asking
from recbole_exp3rt.cluster.flow import Flow
from recbole_exp3rt.cluster.ray_llm import RayLLM
from recbole_exp3rt.cluster.session import ClusterOptions, connect, room, set_up_data
from recbole_exp3rt.cluster.train_tables import write_rows
from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Review
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages import preference
from recbole_exp3rt.stages.settings import StageSettings

ANSWER = "[Like]\n- slow films of few words\n- a good cast\n\n[Dislike]\n- a weak ending"
TEXT = "A slow film of few words with a good cast, but the ending is weak and comes late. " * 5


class Free:
    """Makes a model that answers at once; it pickles."""

    def __call__(self) -> ScriptedLLM:
        return ScriptedLLM(answered, identity="free")


def answered(request: Request) -> Completion:
    own = zlib.crc32(request.messages[-1].content.encode())  # no answer is that of another
    return Completion(f"{ANSWER} {own}", prompt_tokens=300, new_tokens=25)


def review(number: int) -> Review:
    user, item = f"user{number // 20}", f"item{number % 997}"
    return Review(user, item, 4.0, f"{number}. {TEXT}", "A film", number)


def requests(number: int) -> list[Request]:
    prompt, llm = load_prompts().preference, Free()()
    options = {"item_word": "movie", "max_prompt_tokens": 1200, "max_new_tokens": 256}
    counted: Any = {**options, "max_review_tokens": None, "count": llm.count_tokens}
    first = preference.request(review(0), prompt, **counted)
    *before, last = first.messages
    return [
        replace(
            first,
            messages=(*before, replace(last, content=last.content.replace("0. A", f"{n}. A", 1))),
        )
        for n in range(number)
    ]


def driver(ray: Any, workers: int, asked: list[Request]) -> tuple[float, float]:
    """Questions a second, first and second call: the second finds its workers there."""
    llm, found = RayLLM(Free(), ClusterOptions("ray", workers)), []
    for _ in range(2):
        start = time.monotonic()
        done = sum(1 for _ in llm.generate(asked))
        found.append(done / (time.monotonic() - start))
    llm.close()
    return found[0], found[1]


def flow(ray: Any, workers: int, reviews: int, store: str, folder: Path) -> tuple[float, float]:
    """Rows a second of the step `preferences`, asked and then known."""
    settings = StageSettings(scale=RatingScale.between(1, 5), item_word="movie")
    rooms = {"preferences": room(ray, ClusterOptions("ray", workers), local=False)}
    write_rows(map(as_row, map(review, range(reviews))), rows.REVIEWS, folder / "reviews")
    found = []
    for _ in range(2):

        def asking(add: Any) -> Asking:
            return Asking(Free(), "free", store, None, settings, load_prompts(), add)

        start = time.monotonic()
        done = Flow(ray, folder, settings, rooms, lambda *_: None).preferences(asking, "")
        found.append(done.rows / (time.monotonic() - start))
    return found[0], found[1]


def as_row(one: Review) -> rows.Row:
    row = {"user_id": one.user, "item_id": one.item, "rating": one.rating, "title": one.title}
    return {**row, "text": one.text, "timestamp": one.timestamp, "helpful": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--reviews", type=int, default=20_000)
    parser.add_argument("--postgres", help="URL of a database; without it the store is SQLite")
    given = parser.parse_args()
    asked = requests(given.questions)
    job = asked[:256]
    there = len(pickle.dumps(job)) / len(job)
    back = len(pickle.dumps([(0, n, answered(one)) for n, one in enumerate(job)])) / len(job)
    print(f"bytes of a question {there:,.0f}, of an answer {back:,.0f} (in a list of {len(job)})")
    ray = connect()
    set_up_data(ray)
    print("| workers | driver, first | driver, again | flow, asked | flow, known |")
    print("|---|---|---|---|---|", flush=True)
    for workers in given.workers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            store = given.postgres or str(folder / "answers.sqlite")
            figures = (
                *driver(ray, workers, asked),
                *flow(ray, workers, given.reviews, store, folder),
            )
            print(f"| {workers} | {' | '.join(f'{one:,.0f}' for one in figures)} |", flush=True)


if __name__ == "__main__":
    main()
