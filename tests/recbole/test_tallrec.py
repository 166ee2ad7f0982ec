"""TALLRec: what its questions show, what the score is, what it learns and what it never sees."""

import json
import math
from random import Random

import pytest
import torch
from rich.console import Console
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from worlds import write_inter

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.distill.train import lora_trainer
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Failure, Readout, Request, score
from recbole_exp3rt.llm.card import CARD, pair_digest
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.rerank.tallrec import TALLRec
from recbole_exp3rt.stages.counts import NothingRated

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


@pytest.fixture
def world(tmp_path):
    """world(train=…, valid=…, test=…, titles=…, **settings of TALLRec) -> its Config."""

    def make(train=TRAIN, valid=VALID, test=TEST, titles=None, **settings):
        parts = {"train": train, "valid": valid, "test": test}
        write_world(tmp_path / "dataset" / "world", parts, titles or TITLES)
        run_keys = {"student", "relevant_from", "rating_scale"}
        values = {
            "rating_scale": [1, 5],
            "benchmark_filename": ["train", "valid", "test"],
            "description_fields": {"title": "Title"},
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            **{k if k in run_keys else f"TALLRec.{k}": v for k, v in settings.items()},
        }
        return Config("LightGCN", "world", config_dict=values).for_model("TALLRec")

    return make


def tallrec(config, scorer=lambda request, text: (-0.5, -2.0), reply=""):
    models = LanguageModels(
        ModelSettings.from_config(config),
        load=lambda name, **options: ScriptedLLM(lambda request: reply, scorer=scorer),
    )
    return TALLRec(config, load_split(config).train, models)


def shown(model, user, item):
    return model.request((user, item)).messages[-1].content


# --- the question


def test_titles_are_liked_or_disliked_by_their_rating_oldest_first(world):
    text = shown(tallrec(world()), "ann", "d")
    liked, _, rest = text.partition("Disliked by")
    disliked, _, target = rest.partition("in question:")
    assert liked.index("- Yes Man\n") < liked.index("- Rain\n")
    assert "- No Country for Old Men\n" in disliked and "Yes Man" not in disliked
    assert target.strip().startswith("Dr. No")


@pytest.mark.parametrize(
    ("settings", "liked_from"),
    [
        ({}, 4),  # above the middle of 1 to 5
        ({"rating_scale": [1, 10]}, 6),
        ({"relevant_from": 5}, 5),
        ({"relevant_from": 5, "like_from": 2}, 2),
    ],
)
def test_what_is_liked_follows_from_the_settings(world, settings, liked_from):
    model = tallrec(world(**settings))
    assert model.likes(liked_from) and not model.likes(liked_from - 0.5)


def test_no_question_holds_a_test_or_validation_row_or_the_pair_itself(world):
    model = tallrec(world())
    assert "Say Yes" not in shown(model, "ann", "d")  # a validation row of ann
    assert shown(model, "ann", "c").count("Rain") == 1  # a train pair: its title alone


def test_a_user_without_train_ratings_is_asked_about_with_empty_lists(world):
    model = tallrec(world())
    assert shown(model, "cat", "a").count("\nnone\n") == 2
    assert model.log_odds([("cat", "a")]) == [1.5]


def test_a_prompt_over_its_budget_loses_the_oldest_titles_and_never_the_end(world):
    rated = [("ann", f"t{k}", 5, k) for k in range(30)]
    titles = {**TITLES, **{f"t{k}": f"Film {k}." for k in range(30)}}
    config = world(train=[*rated, ("cat", "b", 1, 1)], titles=titles, max_prompt_tokens=90)
    text = shown(tallrec(config), "ann", "d")
    assert "Film 0." not in text and "Film 29." in text
    assert "Dr. No" in text and text.endswith("Will this user like it?")


def test_what_all_candidates_share_comes_first_in_the_prompt(world):
    model = tallrec(world())
    texts = [shown(model, "ann", item) for item in "de"]
    shared = len(texts[0].partition("Dr. No")[0])
    assert texts[0][:shared] == texts[1][:shared] and "Rain" in texts[0][:shared]


# --- the score


def test_the_score_is_the_log_odds_of_yes(world):
    probabilities = {"d": (0.6, 0.2), "e": (0.1, 0.4)}

    def scorer(request, text):
        target = request.messages[-1].content.partition("in question:")[2]
        return map(math.log, probabilities["d" if "Dr. No" in target else "e"])

    model = tallrec(world(), scorer)
    lists = [Candidates("ann", ("d", "e"), (2.0, 1.0)), Candidates("bob", ("d",), (1.0,))]
    ann, bob = model.rerank(lists)
    assert ann == [pytest.approx(math.log(3)), pytest.approx(-math.log(4))]
    assert bob == [pytest.approx(math.log(3))]
    assert model.llm.calls == 3 and model.step.count.readable == 3


def test_the_order_of_candidates_changes_no_score(world):
    def scorer(request, text):
        return (-len(request.messages[-1].content) / 7, -1.0)

    ways = ("abcde", "edcba", "cadbe")
    found = []
    for way in ways:
        lists = [Candidates("ann", tuple(way), tuple(range(5, 0, -1)))]
        found.append(dict(zip(way, tallrec(world(), scorer).rerank(lists)[0], strict=True)))
    assert found[0] == found[1] == found[2] and len(set(found[0].values())) > 2


def test_a_candidate_without_an_answer_has_no_score(world):
    def reply(request):
        return Failure("the server is down") if "Dr. No" in request.messages[-1].content else ""

    model = tallrec(world())
    model.llm.llm._reply = reply
    assert model.rerank([Candidates("ann", ("e", "d"), (2.0, 1.0))]) == [[1.5, None]]
    assert model.step.count.coverage == 0.5


def test_a_model_that_never_answers_is_an_error_after_few_questions(world):
    model = tallrec(world(), scorer=lambda request, text: (math.nan, -1.0))
    with pytest.raises(NothingRated, match="not one of 5 pairs was judged"):
        model.log_odds([(user, item) for user in ("ann", "bob") for item in "abcde"])


# --- the examples


def test_examples_are_train_pairs_with_what_their_user_rated_before(world):
    model = tallrec(world(preset="original", shots=50, valid_shots=50))
    student = model.student(load_split(model.config))
    train, valid = student.examples["binary"]
    assert len(train) == 4  # the first rating of a user has nothing before it
    by_target = {
        e.messages[-1].content.partition("in question:")[2].split("\n")[1]: e for e in train
    }
    rain, say_yes = by_target["Rain"], by_target["Say Yes"]
    assert (rain.answer, rain.label) == ("Answer: Yes", "Yes")
    assert (say_yes.answer, say_yes.label) == ("Answer: No", "No")
    assert rain.messages[-1].content.count("Rain") == 1, "not in its own history"
    assert "Yes Man" not in say_yes.messages[-1].content, "bob rated it later"
    assert sorted(e.label for e in valid) == ["No", "Yes"]
    assert student.card.train_pairs == sorted(pair_digest(u, i) for u, i, *_ in TRAIN)
    # training shows what inference shows
    assert rain.messages == model.request(("ann", "c")).messages


def test_shots_are_drawn_by_the_seed(world):
    rated = [(f"u{u}", i, 1 + (u + k) % 5, k) for u in range(9) for k, i in enumerate("abcd")]
    config = world(train=rated, valid=[("u1", "e", 1, 9)], preset="original", shots=7)
    split, model = load_split(config), tallrec(config)

    def drawn(seed):
        model.seed = seed
        return model.student(split).examples["binary"][0]

    assert len(drawn(1)) == 7 and drawn(1) == drawn(1) != drawn(2)
    assert model.student(split).folder.name.startswith("world-TALLRec-")


def test_no_validation_or_test_row_changes_a_question_or_what_is_learned(world):
    """Metamorphic: all other rows get another rating, item and text."""

    def learned(valid, test):
        model = tallrec(world(valid=valid, test=test, preset="original"))
        train = model.student(load_split(model.config)).examples["binary"][0]
        questions = model.questions([(user, item) for user in ("ann", "bob") for item in "abcde"])
        return train, questions

    other = [("ann", "d", 5, 7), ("bob", "d", 1, 7)], [("ann", "e", 5, 9), ("cat", "b", 1, 9)]
    assert learned(VALID, TEST) == learned(*other)


def test_without_rows_to_learn_from_it_says_so(world):
    model = tallrec(world(valid=[("cat", "a", 1, 1)], preset="original"))
    with pytest.raises(UsageError, match="no validation row of a user with earlier ratings"):
        model.prepare(load_split(model.config))
    with pytest.raises(UsageError, match="has no student yet"):
        model.rerank([Candidates("ann", ("d",), (1.0,))])


# --- the student


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random Llama of width 32 with a few hundred tokens, made of the prompts' own words."""
    prompt = load_prompt("tallrec", None, frozenset({"item_word", "liked", "disliked", "target"}))
    words = [" ".join([prompt.frame, *tasteful()["titles"].values(), "Answer: Yes Answer: No"])]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=1, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("tallrec") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return str(folder)


ALL_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QUICK = {
    "rank": 16,
    "target_modules": ALL_LAYERS,
    "batch_size": 5,
    "learning_rate": 0.01,
    "epochs": 10,
    "device": "cpu",
}


def auc(scores, labels):
    """Share of (liked, disliked) pairs in the right order; ties count half."""
    liked = [s for s, label in zip(scores, labels, strict=True) if label]
    others = [s for s, label in zip(scores, labels, strict=True) if not label]
    wins = sum((a > b) + (a == b) / 2 for a in liked for b in others)
    return wins / (len(liked) * len(others))


def judged(model, examples):
    """Log-odds of the questions of examples."""
    requests = [Request(e.messages, max_new_tokens=0) for e in examples]
    return [yes - no for yes, no in score(model.llm, requests, Readout("Answer: ", ("Yes", "No")))]


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


@pytest.fixture
def trained(world, tiny):
    """trained(rows, **train_args) -> a trained TALLRec, its split, and what it said."""

    def make(rows, shots=20, **train_args):
        config = world(**rows, preset="original", student=tiny, shots=shots, valid_shots=12)
        config["train_args"] = {**QUICK, **train_args}
        split, said = load_split(config), []
        model = TALLRec(config, split.train)
        model.prepare(split, said.append)
        return model, split, said

    return make


def on_test(model, split):
    return auc(model.log_odds(split.pairs("test")), split.ratings("test") >= 4)


def test_twenty_rows_are_learned_by_heart_and_the_student_is_used_again(trained):
    model, split, said = trained(tasteful())
    examples = model.student(split).examples["binary"][0]
    labels = [example.label == "Yes" for example in examples]
    assert len(examples) == 20 and 0 < sum(labels) < 20
    assert auc(judged(model, examples), labels) == 1.0
    assert on_test(model, split) > 0.8, "the rule is in the titles"
    assert any("Training TALLRec on 20 and 12 pairs" in line for line in said)
    again, _, said = trained(tasteful())
    assert not said and again.llm.identity == model.llm.identity
    folder = model.student(split).folder
    card = json.loads((folder / CARD).read_text())
    assert folder.parent.name == "saved" and card["tasks"] == ["binary"]
    assert card["settings"]["target_modules"] == ALL_LAYERS


def test_labels_without_sense_teach_nothing_about_other_pairs(trained):
    model, split, _ = trained(tasteful(shuffled=True), epochs=4)
    assert 0.35 < on_test(model, split) < 0.65


def test_a_training_that_was_killed_goes_on_as_if_not(trained, monkeypatch):
    few = {"epochs": 3, "shots": 10}
    model, split, _ = trained(tasteful(), **few)
    folder = model.student(split).folder
    wanted = json.loads((folder / CARD).read_text())["metrics"]
    folder.rename(folder.with_name("whole"))
    evaluate, calls = lora_trainer.AnswerTrainer.evaluate, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise SystemExit
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(lora_trainer.AnswerTrainer, "evaluate", killed)
        trained(tasteful(), **few)
    assert not (folder / CARD).is_file()
    _, _, said = trained(tasteful(), **few)
    assert any("goes on from step 2" in line for line in said)
    metrics = json.loads((folder / CARD).read_text())["metrics"]
    assert (metrics["loss"], metrics["eval_loss"]) == (wanted["loss"], wanted["eval_loss"])


# --- a run


@pytest.fixture
def scripted(monkeypatch):
    """Every language model of a run likes long titles."""

    def load(name, **options):
        def scorer(request, text):
            return (float(len(request.messages[-1].content)), 0.0)

        identity = f"{name}{options.get('adapter', '')}"
        return ScriptedLLM(lambda request: "", scorer=scorer, identity=identity)

    monkeypatch.setattr(LanguageModels.__init__, "__defaults__", (load,))


def test_it_reranks_a_generators_candidates_and_is_no_model_of_a_run(world, scripted, monkeypatch):
    config = world(**tasteful())
    given = {k: v for k, v in config.external_config_dict.items() if k not in ("model", "dataset")}
    given |= {"reranker": "TALLRec", "epochs": 1, "topk": [1, 2], "rerank_users": 4}
    rows = run("BPR", "world", config_dict=given).rows
    assert [row.name for row in rows] == ["BPR", "BPR + Bias", "BPR + TALLRec"]
    assert rows[2].coverage == 1 and rows[2].readout == "exact" and rows[2].calls
    with pytest.raises(UsageError, match="TALLRec is a reranker; name it so"):
        run("TALLRec", "world", config_dict=given)


def test_a_dry_run_of_preset_original_plans_and_trains_nothing(world, scripted, tmp_path):
    config = world(**tasteful())
    given = {k: v for k, v in config.external_config_dict.items() if k not in ("model", "dataset")}
    given |= {"reranker": "TALLRec", "TALLRec.preset": "original", "topk": [1, 2]}
    console = Console(record=True, width=200)
    run("BPR", "world", config_dict={**given, "dry_run": True}, console=console)
    said = console.export_text()
    assert "To train: TALLRec; its questions are planned as the base's" in said
    assert "Answering Yes or No for TALLRec: 0 answers are in the store; to ask" in said
    assert not list(tmp_path.glob("saved/*TALLRec*"))
