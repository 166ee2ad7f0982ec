"""Worlds for TALLRec: films with titles, and users who like some of them."""

import json
from random import Random

from worlds import write_inter

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.rerank.tallrec import TALLRec

TITLES = {
    "a": "Yes Man",
    "b": "No Country for Old Men",
    "c": "Rain",
    "d": "Dr. No",
    "e": "Say Yes",
}
TRAIN = [
    ("ann", "a", 5, 1),
    ("ann", "b", 2, 2),
    ("ann", "c", 4, 3),
    ("bob", "b", 5, 1),
    ("bob", "e", 1, 2),
    ("bob", "a", 3, 3),
]
VALID = [("ann", "e", 1, 8), ("bob", "c", 5, 8)]
TEST = [("ann", "d", 3, 9), ("cat", "a", 4, 9)]


def write_world(folder, parts, titles):
    rows = []
    for part, part_rows in parts.items():
        write_inter(folder / f"world.{part}.inter", part_rows)
        rows += part_rows
    lines = [
        {"user_id": u, "item_id": i, "timestamp": t, "title": "", "text": f"{u} on {i}."}
        for u, i, _, t in rows
    ]
    text = "\n".join(map(json.dumps, lines))
    (folder / "world.reviews.jsonl").write_text(text, encoding="utf-8")
    items = "item_id:token\ttitle:token\n" + "".join(f"{i}\t{t}\n" for i, t in titles.items())
    (folder / "world.item").write_text(items, encoding="utf-8")


def config_of(folder, train=TRAIN, valid=VALID, test=TEST, titles=None, **settings):
    """The Config of TALLRec with `settings` on a world that is written below `folder`."""
    parts = {"train": train, "valid": valid, "test": test}
    write_world(folder / "dataset" / "world", parts, titles or TITLES)
    run_keys = {"student", "relevant_from", "rating_scale"}
    values = {
        "rating_scale": [1, 5],
        "benchmark_filename": ["train", "valid", "test"],
        "description_fields": {"title": "Title"},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        **{k if k in run_keys else f"TALLRec.{k}": v for k, v in settings.items()},
    }
    return Config("LightGCN", "world", config_dict=values).for_model("TALLRec")


def tallrec(config, scorer=lambda request, text: (-0.5, -2.0), reply=""):
    models = LanguageModels(
        ModelSettings.from_config(config),
        load=lambda name, **options: ScriptedLLM(lambda request: reply, scorer=scorer),
    )
    return TALLRec(config, load_split(config).train, models)


def shown(model, user, item):
    return model.request((user, item)).messages[-1].content


def tasteful(shuffled=False):
    """Users who like films about rain; `shuffled`: their ratings say nothing about anything."""
    titles = {f"i{k}": f"{'Rain' if k % 2 else 'War'} {k}" for k in range(12)}
    titles |= {"i0": "No Country for Old Men", "i1": "Yes Man and Rain"}
    random = Random(0)
    rows = {"train": [], "valid": [], "test": []}
    for user in range(24):
        for time, item in enumerate(random.sample(sorted(titles), 11)):
            part = "train" if time < 3 else "valid" if time == 3 else "test"
            likes = random.random() < 0.5 if shuffled else "Rain" in titles[item]
            rows[part].append((f"u{user:02}", item, 5 if likes else 1, time))
    return {**rows, "titles": titles}
