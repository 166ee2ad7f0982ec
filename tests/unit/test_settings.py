"""Settings answer a wrong value with the key, the value and what is allowed."""

import json
from pathlib import Path

import pytest
import yaml

from recbole_exp3rt.config.settings import RunSettings, Settings
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.rater import notes
from recbole_exp3rt.paths import properties_dir


def config(**changes):
    """The defaults of `properties/` with `changes`; a mapping like RecBole's."""
    values = {"seed": 2020}
    for name in ("overall.yaml", "llm.yaml", "model/EXP3RT.yaml", "dataset/imdb.yaml"):
        values |= yaml.safe_load((properties_dir() / name).read_text(encoding="utf-8"))
    return Answers(values | changes)


class Answers(dict):
    def __missing__(self, key):  # as RecBole's config does
        return None


def test_the_shipped_defaults_are_valid_and_the_papers():
    settings, run = Settings.from_config(config()), RunSettings.from_config(config())
    assert settings.stages.use_reasoning and settings.stages.use_bias
    assert (settings.stages.max_prompt_tokens, settings.stages.max_new_tokens) == (1200, 512)
    assert settings.stages.item_profile == "all" and settings.stages.neighbors == 3
    assert settings.preference_model == settings.profile_model == settings.rating_model == "smollm2"
    assert run.tasks is None and run.rerank_depth == 20 and run.topk == (5, 10, 15, 20)
    assert run.scale.levels == tuple(range(1, 11)) and run.relevant_from == 6


def test_a_run_says_whose_reviews_make_its_item_profiles():
    def said(**changes):
        return Settings.from_config(config(**changes)).stages.limits()

    assert said() == []
    assert said(item_profile="helpful") == ["item profiles from the 5 most helpful reviews"]
    assert said(item_profile="neighbor") == ["item profiles from the 3 most similar users"]


def test_a_run_notes_what_its_student_was_not_trained_for(tmp_path):
    learned = {"prompts": "abcd", "data_settings": {"use_bias": True, "use_reasoning": True}}
    (tmp_path / "exp3rt_card.json").write_text(json.dumps(learned))

    def said(prompts="abcd", **changes):
        given = config(rating_model=str(tmp_path), **changes)
        return list(notes(Settings.from_config(given), prompts))

    assert said() == []
    assert said(prompts="0123") == [f"{tmp_path} was trained with other prompts"]
    assert said(use_bias=False) == [f"{tmp_path} was trained with use_bias=True"]
    assert said(adapter="elsewhere") == ["elsewhere was not trained for this task"]
    oracle = Settings.from_config(config(rating_model="oracle"))
    assert list(notes(oracle, "abcd")) == []


def test_a_step_can_be_given_to_another_model():
    settings = Settings.from_config(config(preference_model="oracle", student="llama3-8b"))
    assert settings.preference_model == "oracle" and settings.rating_model == "llama3-8b"


def test_one_or_several_generators_are_read_alike():
    assert RunSettings.from_config(config(generator="BPR")).generators == ("BPR",)
    for both in (["BPR", "LightGCN"], "[BPR, LightGCN]", "[BPR,LightGCN]"):
        assert RunSettings.from_config(config(generator=both)).generators == ("BPR", "LightGCN")


def test_a_scale_with_steps_is_a_list_or_says_its_names():
    named = {"lowest": 0.5, "highest": 5, "step": 0.5}
    for given in ([0.5, 5, 0.5], named):
        scale = RunSettings.from_config(config(rating_scale=given, relevant_from=3.5)).scale
        assert scale.levels == tuple(k / 2 for k in range(1, 11))
    assert RunSettings.from_config(config(rating_scale={"lowest": 1, "highest": 10})).scale == (
        RunSettings.from_config(config()).scale
    )


def test_a_data_set_that_says_no_scale_can_still_be_ranked():
    assert RunSettings.from_config(config(rating_scale=None)).scale is None
    with pytest.raises(UsageError, match=r"rating_scale=None is not \[lowest, highest\]"):
        Settings.from_config(config(rating_scale=None))


def test_servers_are_one_url_or_several():
    for both in (["http://a/v1", "http://b/v1"], "[http://a/v1,http://b/v1]"):
        urls = Settings.from_config(config(base_url=both)).http.base_url
        assert urls == ("http://a/v1", "http://b/v1")
    http = Settings.from_config(config(base_url="http://a/v1")).http
    assert (http.base_url, http.concurrency, http.readout) == (("http://a/v1",), 8, "auto")


def test_the_ledger_lies_beside_the_store_and_money_is_not_limited():
    settings = Settings.from_config(config(store_path="there/a.sqlite"))
    assert (settings.ledger, settings.budget) == (str(Path("there", "ledger.jsonl")), None)
    settings = Settings.from_config(config(ledger="mine.jsonl", budget=2, requests_per_minute=60))
    assert (settings.ledger, settings.budget) == ("mine.jsonl", 2.0)
    assert settings.http.requests_per_minute == 60 and settings.http.tokens_per_minute is None


def test_a_key_given_in_place_of_its_variables_name_is_not_repeated():
    with pytest.raises(UsageError, match="api_key_env is not the name of an env") as error:
        Settings.from_config(config(api_key_env="sk-secret"))
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rerank_depth": 5, "topk": [10]}, r"rerank_depth=5 is below max\(topk\)=10"),
        ({"task": "rerankk"}, r"task='rerankk' is not one of rating, rerank \(did you mean rerank"),
        ({"eval_pairs": 0}, "eval_pairs=0 is not a whole number from 1 on"),
        ({"eval_pairs": -3}, "eval_pairs=-3 is not"),
        ({"rating_scale": [10, 1]}, r"rating_scale=\[10, 1\] is not \[lowest, highest\]"),
        ({"rating_scale": "1-10"}, "rating_scale='1-10' is not"),
        ({"rating_scale": [0.5, 5]}, r"give the step: \[0.5, 5, 0.5\] for half stars"),
        ({"rating_scale": [1, 100000000]}, "more than 101 levels from 1 to 100000000"),
        ({"rating_scale": [1, float("inf")]}, "is not"),
        ({"rating_scale": [1, 5, 0.3]}, "steps of 0.3 from 1 on do not end at 5"),
        ({"rating_scale": {"lowest": 1, "hihgest": 5}}, "is not"),
        ({"relevant_from": 60}, "relevant_from=60 is outside the scale 1–10"),
        ({"prior_reg_weight": 0}, "prior_reg_weight=0.0 is not a number above 0"),
        ({"rating_reasoning": "top:5"}, "rating_reasoning='top:5' is not all, none or uncertain:P"),
        ({"rerank_reasoning": "top:0"}, "rerank_reasoning='top:0' is not all, none or top:K"),
        ({"use_reasoning": False, "rerank_reasoning": "top:5"}, "no rationale is written at all"),
        ({"calibration": "blend", "rerank_reasoning": "top:5"}, "give both the same"),
        (
            {"use_bias": "yes"},
            "use_bias='yes' is not one of averages, baseline, prior, ",
        ),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is not a whole number from 1 on"),
        ({"student": ""}, "student='' is not a text"),
        ({"base_url": "127.0.0.1:8000"}, "base_url='127.0.0.1:8000' is not a URL"),
        ({"readout": "best"}, "readout='best' is not one of auto, exact, top, parsed"),
        ({"concurrency": 0}, "concurrency=0 is not a whole number from 1 on"),
        ({"request_timeout": 0}, "request_timeout=0.0 is not a number of seconds above 0"),
        ({"budget": -1}, "budget=-1.0 is not a number of US dollars from 0 on"),
        ({"budget": "5 USD"}, "budget='5 USD' is not a number"),
        ({"tokens_per_minute": 0}, "tokens_per_minute=0 is not a whole number from 1 on"),
        ({"batch_poll_seconds": 0}, "batch_poll_seconds=0.0 is not a number of seconds above 0"),
        ({"topk": []}, r"topk=\[\] is not a list of whole numbers"),
        ({"generator": [3]}, r"generator=\[3\] is not a name"),
        ({"description_fields": ["title"]}, "does not map columns"),
        ({"item_profile": "neighbour"}, "is not one of all, helpful, neighbor .did you mean neigh"),
        ({"neighbors": 0}, "neighbors=0 is not a whole number from 1 on"),
        ({"calibration": "Blend"}, "calibration='Blend' is not one of none, affine, blend"),
        ({"calibration_pairs": 3}, "calibration_pairs=3 is not a whole number from 10 on"),
    ],
)
def test_an_impossible_value_is_one_clear_line(changes, complaint):
    with pytest.raises(UsageError, match=complaint) as error:
        RunSettings.from_config(config(**changes))
        Settings.from_config(config(**changes))
    assert "\n" not in str(error.value)
