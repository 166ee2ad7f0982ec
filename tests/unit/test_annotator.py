"""What a teacher is asked about a small world, what becomes an example, what is rejected."""

from dataclasses import replace
from pathlib import Path

import pytest

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.distill.annotate import quality_gate
from recbole_exp3rt.distill.annotate.annotator import Annotator
from recbole_exp3rt.distill.annotate.options import AnnotateSettings
from recbole_exp3rt.distill.annotate.plan import plan
from recbole_exp3rt.distill.annotate.teacher import JudgedLLM
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Failure, LLMError, Message, Request, answer_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.pipeline import StageSettings

FIVE = RatingScale.between(1, 5)
TRAIN = [
    Review("ann", "film", 5, "Lovely music.", timestamp=1),
    Review("ann", "play", 2, "Dull plot.", timestamp=2),
    Review("bob", "film", 4, "Lovely music, long.", timestamp=3),
    Review("bob", "show", 3, "Fine.", timestamp=4),
    Review("cat", "show", 1, "", timestamp=5),
]
VALID = [Review("ann", "show", 4)]


def reply(request: Request) -> str:
    """A teacher that does its work: a bullet per review, and the side that the rating says."""
    text = request.messages[-1].content
    if "<Review>" in text:
        said = text.split("<Review>\n")[1].split("\n")[0]
        return f" {said.rstrip('.')}\n\n[Dislike]\nNone."
    if "<Preferences>" in text:
        told = [line for line in text.splitlines() if line.startswith("- ")]
        return f" {'; '.join(line[2:] for line in told)}\n\n[Dislike]\nNone."
    rating = int(text.split("<User Rating>\n")[1].split("\n")[0])
    return f"It meets the user's wishes.\nRecommended: {'yes' if rating >= 3 else 'no'}"


def annotator(teacher=None, valid=VALID, train=TRAIN, **values) -> Annotator:
    options = {"pairs": None, "retries": 2, "temperature": 0.1} | values
    stage_keys = ("use_reasoning", "use_bias", "profile_leave_one_out", "max_prompt_tokens")
    stages = {key: options.pop(key) for key in stage_keys if key in options}
    own = AnnotateSettings(
        teacher="scripted",
        folder=None,
        rationale_new_tokens=99,
        recommend_from=3,
        seed=1,
        **options,
    )
    corpus = Corpus(train, {"film": Description("film", (("Title", "Film"),))})
    settings = StageSettings(FIVE, item_word="film", **stages)
    return Annotator(corpus, valid, teacher or ScriptedLLM(reply), load_prompts(), settings, own)


def texts(examples):
    return ["".join(message.content for message in example.messages) for example in examples]


def test_every_step_becomes_examples_and_held_out_ones_stand_apart():
    made = annotator().run()
    sizes = {task: tuple(map(len, parts)) for task, parts in made.examples.items()}
    # four reviews have a text; cat wrote none, so cat has no profile
    assert sizes == {
        "preference": (3, 1),
        "user_profile": (1, 1),
        "item_profile": (2, 1),
        "rating": (5, 1),
    }
    assert not made.rejected and made.resampled == 0
    task_counts = {task: (tally.asked, tally.kept) for task, tally in made.task_counts.items()}
    assert task_counts == {
        "preference": (4, 4),
        "user_profile": (2, 2),
        "item_profile": (3, 3),
        "rating": (6, 6),
    }


def test_answers_are_whole_turns_as_a_student_gives_them():
    made = annotator().run().examples
    both = {task: [*train, *valid] for task, (train, valid) in made.items()}
    assert "[Like]\n- Lovely music\n\n[Dislike]\nNone." in [e.answer for e in both["preference"]]
    assert "[Like]\n- Lovely music; Dull plot\n\n[Dislike]\nNone." in [
        e.answer for e in both["user_profile"]
    ]
    train, (valid,) = made["rating"]
    told = "Reasoning: It meets the user's wishes.\nPredicted User Rating: "
    assert [e.answer for e in train] == [told + label for label in "52431"]
    assert valid.answer == told + "4"
    assert "<User Rating>" not in "".join(texts([*train, valid]))


def test_a_training_pair_is_shown_averages_without_its_own_rating():
    train, valid = annotator().run().examples["rating"]
    ann_film, *_ = texts(train)
    assert "[User Average Rating]\n2.0" in ann_film  # ann's other rating
    assert "[Item Average Rating]\n4.0" in ann_film  # bob's
    assert "[User Average Rating]\n3.5" in texts(valid)[0]  # both of ann's


def test_a_training_pairs_profiles_leave_its_own_review_out_where_they_should():
    for leave_out in (False, True):
        made = annotator(profile_leave_one_out=leave_out).run()
        ann_film, *_ = texts(made.examples["rating"][0])
        assert ("- Dull plot\n" in ann_film) == leave_out
        assert ("Lovely music; Dull plot" in ann_film) != leave_out
        # the profiles to learn are the whole ones
        learned = [e.answer for part in made.examples["user_profile"] for e in part]
        assert len(learned) == 2 and any("Lovely music; Dull plot" in text for text in learned)


def test_without_reasoning_no_rationale_is_asked_for():
    teacher = ScriptedLLM(reply)
    made = annotator(teacher, use_reasoning=False).run()
    assert [e.answer for e in made.examples["rating"][0]] == [
        f"Predicted User Rating: {label}" for label in "52431"
    ]
    assert teacher.calls == 4 + 5  # reviews and profiles
    assert "Reasoning" not in "".join(texts(made.examples["rating"][0]))


def test_some_pairs_need_only_their_own_reviews_and_profiles():
    teacher = ScriptedLLM(reply)
    made = annotator(teacher, pairs=1, valid=[]).run()
    train, valid = made.examples["rating"]
    assert len(train) == 1 and not valid and teacher.calls < 4 + 5 + 5
    some = annotator(pairs=2).train
    assert set(annotator(pairs=1).train) < set(some) < set(annotator(pairs=4).train)


def test_the_card_names_every_interaction_that_a_train_file_has_seen():
    seen = set(annotator().run().train_pairs)
    assert seen == {pair_digest(row.user, row.item) for row in TRAIN}
    one = annotator(pairs=1)
    (row,) = one.train
    near = {pair_digest(r.user, r.item) for r in TRAIN if r.user == row.user or r.item == row.item}
    assert near <= set(one.run().train_pairs)


def test_it_names_the_reviews_that_only_validation_needed_too():
    """Their preferences are trained on, even if no training pair shows them."""
    train = [Review("ann", "film", 5, "Good."), Review("bob", "show", 3, "Fine.")]
    made = annotator(
        train=train, valid=[Review("bob", "film", 4), Review("ann", "show", 2)], pairs=1
    )
    shown = texts(made.run().examples["preference"][0])
    assert len(made.train) == 1 and len(made.reviews) == 2 and len(shown) == 1
    assert set(made.run().train_pairs) == {pair_digest(row.user, row.item) for row in train}


def test_a_question_is_planned_before_it_is_asked_and_a_stored_answer_is_known(tmp_path):
    teacher = CachedLLM(ScriptedLLM(reply), Store(tmp_path / "answers.sqlite"))
    steps = plan(first := annotator(teacher), teacher)
    assert [(step.step, step.to_ask) for step in steps] == [
        ("preferences", 4),
        ("profiles", 5),
        ("rationales", 6),
    ]
    assert teacher.calls == 0 and all(step.prompt_tokens > 100 for step in steps)
    first.run()
    assert teacher.calls == sum(step.calls for step in steps)
    again = plan(annotator(teacher), teacher)
    assert (again[0].stored, again[0].to_ask, again[0].new_tokens) == (4, 0, 0)


# --- answers that are not good enough


def test_a_rejected_answer_is_drawn_again_by_another_seed_and_listed_when_none_is_good():
    seeds = []

    def stubborn(request):
        if (
            "Dull plot" in request.messages[-1].content
            and "<Review>" in request.messages[-1].content
        ):
            seeds.append((request.seed, request.temperature))
            return "I'm sorry, but I cannot do that."
        return reply(request)

    made = annotator(ScriptedLLM(stubborn)).run()
    assert seeds == [(0, 0.1), (1, 0.1), (2, 0.1)] and made.resampled == 2
    assert made.rejected == [
        {
            "task": "preference",
            "user": "ann",
            "item": "play",
            "reason": quality_gate.REFUSAL,
            "answer": "I'm sorry, but I cannot do that.",
        }
    ]
    assert sum(map(len, made.examples["preference"])) == 3
    assert made.task_counts["preference"].rejected == {quality_gate.REFUSAL: 1}
    assert "sorry" not in repr(made.examples)  # nor did it reach a profile


def test_an_answer_that_is_good_the_second_time_is_kept():
    def moody(request):
        if "<User Rating>" in request.messages[-1].content and request.seed == 0:
            return "It has 7/10 in it.\nRecommended: yes"
        return reply(request)

    made = annotator(ScriptedLLM(moody)).run()
    assert made.resampled == 6 and not made.rejected
    assert "7/10" not in repr(made.examples) and len(made.examples["rating"][0]) == 5


def test_a_rationale_on_the_wrong_side_is_no_example():
    def flatterer(request):
        good = reply(request)
        return good.replace("Recommended: no", "Recommended: yes")

    made = annotator(ScriptedLLM(flatterer)).run()
    assert [e.answer[-1] for e in made.examples["rating"][0]] == list("543")
    assert {row["item"]: row["reason"] for row in made.rejected} == {
        "play": quality_gate.OTHER_SIDE,
        "show": quality_gate.OTHER_SIDE,
    }


def test_what_a_teacher_could_not_answer_is_listed_without_an_answer():
    def broken(request):
        text = request.messages[-1].content
        return Failure("timed out") if "<Review>\nFine" in text else reply(request)

    made = annotator(ScriptedLLM(broken)).run()
    (row,) = made.rejected
    assert (row["reason"], row["answer"], row["item"]) == ("no answer: timed out", "", "show")


@pytest.mark.parametrize("step", ["<Review>", "<Preferences>", "<User Rating>"])
def test_a_teacher_that_refuses_everything_is_one_line_and_its_answers_are_kept(tmp_path, step):
    def refusing(request):
        refuses = step in request.messages[-1].content
        return "I cannot help with that." if refuses else reply(request)

    store = Store(tmp_path / "answers.sqlite")
    with pytest.raises(LLMError, match=r"not one of \d answers .*refusal.*cannot help") as error:
        annotator(CachedLLM(ScriptedLLM(refusing), store)).run()
    assert "\n" not in str(error.value) and len(store) > 0


def test_a_prompt_budget_that_holds_no_example_is_named():
    with pytest.raises(UsageError, match=r"max_prompt_tokens=300 .*256 new tokens; give at least"):
        annotator(max_prompt_tokens=300)


def test_a_rating_outside_the_scale_is_named_before_anything_is_asked():
    with pytest.raises(UsageError, match=r"rating 7 .*1–5 \(user ann, item show\).*rating_scale"):
        annotator(valid=[Review("ann", "show", 7)])


def test_a_validation_row_that_is_a_train_row_too_is_no_validation():
    made = annotator(valid=[Review("ann", "film", 1), *VALID]).run()
    train, valid = made.examples["rating"]
    assert [e.answer[-1] for e in train] == list("52431") and len(valid) == 1


SETTINGS = {
    "teacher": "oracle",
    "teacher_temperature": 0.1,
    "annotate_dir": None,
    "annotate_pairs": None,
    "annotate_retries": 2,
    "rationale_new_tokens": 256,
    "recommend_from": None,
    "rating_scale": [1, 10],
    "seed": 1,
}


def test_a_data_set_that_says_no_threshold_needs_one_for_rationales_only():
    own = AnnotateSettings.from_config(SETTINGS, "world", use_reasoning=False)
    assert own.folder == Path("saved/world-annotated") and own.recommend_from is None
    with pytest.raises(UsageError, match=r"recommend_from is not set.*--recommend_from=6"):
        AnnotateSettings.from_config(SETTINGS, "world", use_reasoning=True)


# --- asking again


def question(text="q"):
    return Request((Message("user", text),))


def test_nothing_is_asked_again_where_nothing_is_drawn():
    teacher = ScriptedLLM(lambda request: "bad")
    judged = JudgedLLM(teacher, lambda request, answer: "bad", temperature=0, retries=5)
    assert answer_all(judged, [question()]) == [Failure("bad", final=True)] and teacher.calls == 1


def test_good_answers_arrive_before_bad_ones_are_asked_again():
    teacher = ScriptedLLM(lambda r: "bad" if r.messages[0].content == "b" else "good")
    judged = JudgedLLM(
        teacher,
        lambda request, answer: "bad" if answer.text == "bad" else None,
        temperature=1.0,
        retries=1,
    )
    arriving = judged.generate([question("b"), question("g")])
    assert next(arriving) == (1, Completion("good", new_tokens=1, prompt_tokens=1))
    assert (
        teacher.calls == 2
        and next(arriving) == (0, Failure("bad", final=True))
        and teacher.calls == 3
    )
    assert judged.rejected[question("b")].answer == "bad"


def test_with_a_prior_an_example_has_bias_without_its_own_rating():
    def biases(train):
        made = annotator(train=train, use_bias="prior").run()
        return {e.messages: e.bias for part in made.examples["rating"] for e in part}, made.prior

    found, prior = biases(TRAIN)
    assert len(found) == 6 and all(1 <= bias <= 5 for bias in found.values())
    assert prior["sigma"] > 0
    changed, _ = biases([replace(TRAIN[0], rating=1), *TRAIN[1:]])
    own = next(messages for messages in found if messages in changed)
    same = [messages for messages in found if found[messages] == changed.get(messages)]
    assert len(same) == 1, own  # all others know the rating of the first
    assert annotator().run().prior == {}
