"""P5: whole words, exact answers, what it learns, and what it must not see."""

import json

import numpy as np
import pytest
import torch
from worlds import write_inter

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.ratings import predict_ratings, rating_metrics
from recbole_exp3rt.model.p5.answers import Answers
from recbole_exp3rt.model.p5.network import WordT5, random_t5
from recbole_exp3rt.model.p5.words import Spelled, Speller, train_tokenizer
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import build_model, fit
from recbole_exp3rt.trainer.trainer import make_trainer

SMALL = {"d_model": 32, "layers": 1, "heads": 2, "vocab_size": 300, "prompts": "full"}
QUICK = {"epochs": 1, "use_gpu": False, "fit_cache": None}
TRAIN = [(f"u{u}", f"i{i}", 1 + (u * 3 + i * 2) % 5, i) for u in range(4) for i in range(u, u + 5)]
VALID = [("u0", "i5", 3, 20), ("u1", "i0", 2, 20), ("new", "i0", 4, 20), ("u1", "fresh", 4, 21)]
TEST = [("u0", "i6", 5, 30), ("u3", "i0", 1, 30), ("new", "i1", 4, 30), ("u2", "fresh", 2, 30)]
ENDS = ("bad", "poor", "fair", "good", "great")


@pytest.fixture
def world(tmp_path):
    """world(valid=…, test=…, word=…, **settings) -> the Config of a small data set with texts."""

    def make(train=TRAIN, valid=VALID, test=TEST, word="film", name="world", **settings):
        folder = tmp_path / "dataset" / name
        write_inter(folder / f"{name}.train.inter", train)
        write_inter(folder / f"{name}.valid.inter", valid)
        write_inter(folder / f"{name}.test.inter", test)
        lines = [
            {"user_id": u, "item_id": i, "timestamp": t, "title": "", "text": text}
            for rows, given in ((train, None), ([*valid, *test], f"Held out {word}."))
            for u, i, r, t in rows
            for text in [given or f"A {ENDS[r - 1]} film. More."]
        ]
        text = "\n".join(map(json.dumps, lines))
        (folder / f"{name}.reviews.jsonl").write_text(text, encoding="utf-8")
        items = "\n".join(f"i{k}\tTitle {k}" for k in range(8))
        (folder / f"{name}.item").write_text(f"item_id:token\ttitle:token\n{items}\n")
        values = {
            "rating_scale": [1, 5],
            "benchmark_filename": ["train", "valid", "test"],
            "description_fields": {"title": "Title"},
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            **SMALL,
            **QUICK,
            **settings,
        }
        return Config("P5", name, config_dict=values)

    return make


def untrained(config):
    return build_model(config, load_split(config).train)


# --- words


def test_pieces_of_one_id_share_a_number_and_two_ids_have_two():
    tokenizer = train_tokenizer(["rate user_ item_ by"] * 3, 120)
    speller = Speller(tokenizer, {"item_3_7": (3, 7)}, first_new=len(tokenizer))
    found = speller.spell("rate item_8231 by user_12 item_3_7", most=64)
    by_word = {}
    for piece, number in zip(found.pieces, found.words, strict=True):
        by_word.setdefault(number, []).append(piece)
    texts = {number: speller.read(pieces) for number, pieces in by_word.items()}
    assert texts == {1: "rate", 2: "item_8231", 3: "by", 4: "user_12", 5: "item_", 0: ""}
    assert len(by_word[2]) > 2, "an id has several pieces"
    assert by_word[5][-2:] == [len(tokenizer) + 3, len(tokenizer) + 7]
    assert by_word[0] == [speller.end], "the end belongs to no word"
    cut = speller.spell("rate item_8231 by user_12", most=4)
    assert len(cut.pieces) == 4 and cut.pieces[-1] == speller.end


def test_the_tokenizer_is_the_same_for_the_same_texts():
    texts = [f"Text number {k} of {k % 7}, quite good." for k in range(200)]
    one, two = (train_tokenizer(texts, 200).backend_tokenizer.to_str() for _ in range(2))
    assert one == two


@pytest.mark.parametrize("ask", ["rate", "written", "explain", "rerank", "train"])
def test_training_scoring_and_generation_pass_the_whole_word_ids(world, ask):
    model = untrained(world())
    given = []
    model.network.words.register_forward_hook(lambda _, words, __: given.append(words[0]))
    if ask == "train":
        model.calculate_loss(load_split(world()).train.inter_feat[[0]])
    elif ask == "rerank":
        model.rerank([Candidates("u1", ("i0",), (1.0,))])
    else:
        getattr(model, ask)([("u1", "i0")])
    family = {"explain": "explanation", "rerank": "direct"}.get(ask, "rating")
    if ask != "train":
        wanted = model.speller.spell(model.tasks.ask(family, "u1", "i0"), 128).words
        assert given[0].tolist() == [wanted]
    assert all(len(set(words.flatten().tolist())) > 5 for words in given)


# --- answers


def test_the_trie_gives_what_scoring_each_answer_alone_gives():
    torch.manual_seed(0)
    network = WordT5(random_t5(30, 16, 1, 2, 0.0)).eval()
    sources = [Spelled([5, 6, 1], [1, 2, 0]), Spelled([7, 8, 9, 4, 1], [1, 1, 2, 3, 0])]
    for answers, ends in (
        ([[3, 4, 5], [3, 4, 6], [3, 7], [8]], False),
        ([[3], [3, 4], [9, 2, 2]], True),  # one is the beginning of another: the end counts
    ):
        with torch.no_grad():
            found = network.score(sources, Answers(answers, network.start, end=1))
            for row, source in zip(found, sources, strict=True):
                for logp, answer in zip(row.tolist(), answers, strict=True):
                    target = [*answer, 1] if ends else answer
                    alone = -network.losses([source], [target]).item() * len(target)
                    assert logp == pytest.approx(alone, abs=1e-5)


def test_probabilities_of_all_41_numbers_sum_to_one(world):
    probabilities = untrained(world()).probabilities([("u0", "i0"), ("u1", "i7")])
    assert probabilities.shape == (2, 41)
    assert probabilities.sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert (probabilities > 0).all()


def test_the_rating_is_the_expected_value_and_5_0_is_kept(world, monkeypatch):
    model = untrained(world())
    logp = torch.full((1, 41), float("-inf"))
    monkeypatch.setattr(model.network, "score", lambda *_: logp)
    logp[0, 40] = -3.0  # "5.0" alone
    assert model.rate([("u0", "i0")]) == [5.0]
    logp[0, 0], logp[0, 38] = np.log([0.25, 0.5])  # "1.0" and "4.8"
    logp[0, 40] = np.log(0.25)
    assert model.rate([("u0", "i0")]) == [pytest.approx(0.25 + 2.4 + 1.25)]
    levels = model.readings["levels"]([("u0", "i0")])
    assert levels == [pytest.approx(0.25 + 2.5 + 1.25)], "4.8 is of level 5"


@pytest.mark.parametrize(
    ("text", "rating"), [("5.0", 5.0), ("4.7", 4.7), ("7.1", None), ("4", None), ("good", None)]
)
def test_the_number_that_the_model_writes(world, monkeypatch, text, rating):
    model = untrained(world())
    monkeypatch.setattr(model, "_generated", lambda *_, **__: [text])
    assert model.readings["parsed"]([("u0", "i0")]) == [rating]


# --- learning


def test_the_network_learns_what_a_user_and_an_item_are_together():
    torch.manual_seed(0)
    network = WordT5(random_t5(39, 32, 1, 2, 0.0), n_ids=9)  # 4 users and 5 items are tokens
    rows = [(u, i, 1 + (u * 3 + i * 2) % 5) for u in range(4) for i in range(5)]
    sources = [Spelled([5, 6, 30 + u, 7, 34 + i, 1], [1, 2, 2, 3, 3, 0]) for u, i, _ in rows]
    ratings = np.array([rating for *_, rating in rows])
    sides = np.hstack([np.eye(4)[[u for u, *_ in rows]], np.eye(5)[[i for _, i, _ in rows]]])
    additive = sides @ np.linalg.lstsq(sides, ratings, rcond=None)[0]
    assert _rmse(additive, ratings) > 0.8, "the sum of a user's and an item's share does not do"
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(300):
        optimizer.zero_grad()
        network.losses(sources, [[10 + rating, 1] for rating in ratings]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        logp = network.score(sources, Answers([[10 + k] for k in range(1, 6)], network.start, 1))
    found = (logp.softmax(dim=1) @ torch.arange(1.0, 6.0)).numpy()
    assert _rmse(found, ratings) < 0.3


def _rmse(found, wanted):
    return np.sqrt(np.mean((found - wanted) ** 2))


def test_a_rating_weighs_as_often_as_it_should_in_the_loss(world, monkeypatch):
    model = untrained(world(rating_weight=3, families=["rating", "explanation"]))
    value = {"rating": 2.0, "explanation": 6.0}
    monkeypatch.setattr(
        model, "_losses", lambda samples: torch.tensor([value[s.family] for s in samples])
    )
    loss = model.calculate_loss(load_split(world()).train.inter_feat[[0, 1]])
    assert loss.item() == pytest.approx((3 * 2 + 6) / 4)


def test_the_items_that_users_take_are_said_yes_to(world):
    learn = {"epochs": 200, "learning_rate": 0.003, "train_batch_size": 20}
    learn |= {"id_rate": 1, "id_start": 1, "word_start": 0.1, "id_decay": 0, "rating_weight": 1}
    config = world(valid=[], families=["rating", "direct"], **learn)
    with pytest.warns(UserWarning, match="no validation rows"):
        model = fit("P5", config, load_split(config)).model
    items = tuple(f"i{k}" for k in range(8))
    scores = np.array(model.rerank([Candidates(f"u{u}", items, (0.0,) * 8) for u in range(4)]))
    own = np.array([[u <= i < u + 5 for i in range(8)] for u in range(4)])
    assert scores[own].mean() > scores[~own].mean() + 0.5


def test_the_rate_rises_then_falls_to_zero(world):
    config = world(epochs=10, train_batch_size=2, warm_up=0.1, learning_rate=0.5)
    optimizer = make_trainer(config, untrained(config)).optimizer
    rates = []
    for _ in range(100):  # 20 rows, 10 epochs
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[2]["lr"] == pytest.approx(15 * rates[-1]), "of id tokens"
        optimizer.step()
    assert rates[0] == pytest.approx(0.05) and rates[9] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25) and rates[99] == pytest.approx(0.5 / 90)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0, 0.1]


@pytest.mark.parametrize("ids", ["random", "collaborative"])
def test_one_seed_gives_one_result_and_a_kept_fit_says_the_same(world, ids):
    config = world(ids=ids, clusters=3)
    split = load_split(config)
    first, kept = (FitCache("fits").fit("P5", config, split, refit=False) for _ in range(2))
    again = fit("P5", config, split, refit=False)
    pairs = split.pairs("train")[:4]
    wanted = first.model.rate(pairs), first.model.explain(pairs)
    assert FitCache("fits").known("P5", config, split, refit=False)
    for fitted in (kept, again):
        assert (fitted.model.rate(pairs), fitted.model.explain(pairs)) == wanted
    other = fit("P5", world(ids=ids, clusters=3, seed=7), split, refit=False)
    assert other.model.rate(pairs) != wanted[0]


def test_a_base_is_read_from_a_folder_and_gets_the_new_tokens(world, tmp_path):
    tokenizer = train_tokenizer(["user_ item_ yes no rating direct good film"] * 3, 150)
    t5 = random_t5(len(tokenizer), 16, 1, 2, 0.0)
    t5.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    model = untrained(world(base=str(tmp_path / "t5"), ids="independent"))
    rows = model.network.t5.shared.weight
    assert len(rows) == len(tokenizer) + 4 + 8
    assert torch.equal(rows[: len(tokenizer)], t5.shared.weight)
    assert None not in model.rate([("u0", "i0")])
    with pytest.raises(UsageError, match=r"base=.*nowhere cannot be loaded as a T5"):
        untrained(world(base=str(tmp_path / "nowhere")))


# --- what it must not see, and of what it has nothing to say


def test_held_out_rows_change_nothing_that_is_learned_or_asked(world):
    def learned(**parts):
        config = world(**parts)
        train = load_split(config).train
        model = build_model(config, train)
        for _ in range(2):
            loss = model.calculate_loss(train.inter_feat[list(range(20))])
            loss.backward()
        gradients = [p.grad for p in model.parameters()]
        pieces = model.speller.tokenizer.backend_tokenizer.to_str()
        asked = [model.tasks.ask(family, "u0", "i0") for family in model.settings.families]
        return gradients, pieces, asked, model.tasks.ids, model.tasks.titles

    turned = [[(u, i, 6 - r, t) for u, i, r, t in rows] for rows in (VALID, TEST)]
    changed = [*turned[0], ("newer", "i7", 1, 22)], [*turned[1], ("u0", "newest", 1, 31)]
    before = learned()
    after = learned(valid=changed[0], test=changed[1], word="LEAK", name="changed")
    assert before[1:] == after[1:] and "Held" not in before[1]
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def test_unseen_users_and_items_have_no_answer_and_count_as_missing(world):
    config = world()
    split = load_split(config)
    fitted = fit("P5", config, split, refit=False)
    assert fitted.valid_result is not None and np.isfinite(fitted.valid_result["rmse"])
    rows = np.arange(4)
    predictions = predict_ratings(fitted, split, rows)
    assert np.isnan(predictions).tolist() == [False, False, True, True]
    assert rating_metrics(config, split, predictions, rows)["coverage"] == 0.5
    strangers = [("new", "i1"), ("u2", "fresh"), ("nobody", "i1")]
    model = fitted.model
    for answers in (model.rate(strangers), model.written(strangers), model.explain(strangers)):
        assert answers == [None] * 3
    assert model.rerank([Candidates("new", ("i1", "i2"), (1.0, 0.5))]) == [[None, None]]
    mixed = model.rerank([Candidates("u0", ("i1", "fresh"), (1.0, 0.5))])[0]
    assert mixed[0] is not None and mixed[1] is None


def test_the_order_of_candidates_changes_no_score(world):
    model = untrained(world(id_start=1))
    items = tuple(f"i{k}" for k in range(8))
    one = model.rerank([Candidates("u0", items, (0.0,) * 8)])[0]
    two = model.rerank([Candidates("u0", items[::-1], (0.0,) * 8)])[0]
    assert one == pytest.approx(two[::-1], abs=1e-5) and len(set(one)) == 8


def test_a_short_prompt_has_an_id_in_one_piece_and_no_unseen_one(world):
    model = untrained(world(prompts="short"))
    spelled = model.speller.spell(model.tasks.ask("rating", "u0", "i0"), 64)
    assert spelled.words == [1, 2, 3, 0]
    first = model.network.first_id
    assert [piece >= first for piece in spelled.pieces] == [False, True, True, False]
    with pytest.raises(UsageError, match="give prompts=full"):
        untrained(world(prompts="short", unseen_prompt=True))


def test_a_family_that_was_not_trained_is_named(world):
    model = untrained(world(families=["rating"]))
    with pytest.raises(UsageError, match="cannot rerank without the family direct"):
        model.rerank([])
    with pytest.raises(UsageError, match="cannot explain without the family explanation"):
        model.explain([])
    with pytest.raises(UsageError, match=r"families=.* is not rating"):
        untrained(world(families=["direct"]))


# --- doors


def test_a_preset_is_a_layer_below_given_settings(world):
    config = world(preset="original", epochs=3)
    assert (config["base"], config["learning_rate"], config["epochs"]) == ("t5-small", 0.001, 3)
    assert config["explanation_target"] == "any"
    other = {k: v for k, v in world().given().items() if k not in SMALL}
    beside = Config("Bias", "world", config_dict={**other, "P5.preset": "paper", "P5.epochs": 4})
    assert beside.for_model("P5")["base"] == "t5-small"
    assert beside.for_model("P5")["explanation_target"] == "first"
    assert beside.for_model("P5")["epochs"] == 4
    with pytest.raises(UsageError, match="preset='papr' is not one of"):
        untrained(world(preset="papr"))


def test_p5_is_a_model_a_baseline_and_a_reranker(world):
    given = {k: v for k, v in world().given().items() if k not in SMALL}
    own = {f"P5.{key}": value for key, value in SMALL.items()}
    rows = run("P5", "world", config_dict={**given, **SMALL}).rows
    named = {row.name: row for row in rows if row.slice == "all"}
    assert list(named) == ["constant", "Bias", "P5", "P5 (parsed)", "P5 (levels)"]
    assert named["P5"].coverage == named["P5 (levels)"].coverage == 0.5
    ranking = {**given, **own, "reranker": ["P5"], "topk": [1, 2]}
    assert [r.name for r in run("BPR", "world", config_dict=ranking).rows] == [
        "BPR", "BPR + Bias", "BPR + P5",
    ]  # fmt: skip
