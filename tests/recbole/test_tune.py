"""`exp3rt tune` chooses on validation alone, goes on after a stop; any run takes its file."""

import io
import sqlite3
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from worlds import structured_rows

from recbole_exp3rt.benchmark import tune as tuning
from recbole_exp3rt.benchmark.spaces import read_spaces, space_of
from recbole_exp3rt.benchmark.tune import tune
from recbole_exp3rt.cli.main import main
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.known import model_values
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.fitting import StopTraining, fit, train

SMALL = {"epochs": 2, "use_gpu": False, "log_file": None, "rating_scale": [1, 5]}
SMALL |= {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
FEW = {"trials": 3, "finalists": 2, "seeds": 2}
SHIPPED = ("MF", "WDL", "BPR", "LightGCN")


@pytest.fixture
def parts(make_world):
    """A world of three files; `parts(test)` gives it other test rows."""

    def make(test=lambda rows: rows):
        rows = structured_rows(20, 20, per_user=10)
        last = test([row for row in rows if row[3] == 9])
        make_world(
            {
                "train": [row for row in rows if row[3] < 8],
                "valid": [row for row in rows if row[3] == 8],
                "test": last,
            }
        )
        return {**SMALL, "benchmark_filename": ["train", "valid", "test"]}

    return make


def search(settings, models=("MF",), **options):
    """What a search prints and finds."""
    console = Console(file=io.StringIO(), width=200)
    found = tune(models, "world", options={**FEW, **options}, config_dict=settings, console=console)
    return console.file.getvalue(), found


def text_of(file):
    return Path(file).read_text()


def trials(file):
    """The settings and scores of all finished trials in a file of studies."""
    with sqlite3.connect(file) as base:
        return base.execute(
            "select param_name, param_value, value from trial_params join trial_values "
            "using (trial_id) join trials using (trial_id) where state = 'COMPLETE' "
            "order by number, param_name"
        ).fetchall()


def test_the_winner_is_the_best_on_validation_and_a_run_takes_its_file(parts):
    said, (winner,) = search(parts())
    assert "MF trial 1: RMSE" in said
    assert winner.trials == 3
    assert winner.score <= winner.default  # the usual settings are the first trial
    written = yaml.safe_load(text_of("tuned/world.yaml"))
    assert written == {f"MF.{key}": value for key, value in winner.values.items()}

    config = Config("MF", "world", ["tuned/world"], parts())
    fitted = fit("MF", config, load_split(config), refit=False)
    assert not fitted.chosen  # nothing is left to search
    seeds = [fitted.valid_result["rmse"]]
    other = Config("MF", "world", ["tuned/world"], {**parts(), "seed": config["seed"] + 1})
    split = load_split(config)
    seeds.append(train("MF", other, split).valid_result["rmse"])
    assert sum(seeds) / 2 == pytest.approx(winner.score, abs=1e-4)  # RecBole rounds its metrics


def test_a_model_without_a_finished_trial_does_not_stop_the_search_of_others(parts, monkeypatch):
    monkeypatch.setattr(tuning.Search, "_late", lambda own: own.model == "WDL")
    with pytest.raises(UsageError, match="WDL: no trial came to its end"):
        search(parts(), ("WDL", "MF"))
    assert {key.split(".")[0] for key in yaml.safe_load(text_of("tuned/world.yaml"))} == {"MF"}


def test_no_test_row_is_read(parts):
    """Other users, items and ratings in every test row: the same trials and winner."""
    models = ("MF", "BPR")
    search(parts(), models, output="a.yaml", study="a.db")

    def other(rows):
        return [(user, "i0" if item != "i0" else "i1", 6.0 - rating, time)
                for user, item, rating, time in reversed(rows)]  # fmt: skip

    search(parts(other), models, output="b.yaml", study="b.db")
    assert text_of("a.yaml") == text_of("b.yaml")
    assert trials("a.db") == trials("b.db")


def test_a_stopped_search_goes_on_as_if_nothing_had_happened(parts, monkeypatch):
    settings = parts()
    search(settings, trials=5, output="whole.yaml", study="whole.db")
    real, calls = tuning.train, []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(tuning, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        search(settings, trials=5, output="stopped.yaml", study="stopped.db")
    said, _ = search(settings, trials=5, output="stopped.yaml", study="stopped.db")
    assert "goes on after 3" in said
    assert "trial 3:" not in said.partition("by seed")[0]
    assert text_of("stopped.yaml") == text_of("whole.yaml")
    assert trials("stopped.db") == trials("whole.db")


def test_a_finished_search_fits_nothing_again_but_the_winner(parts, monkeypatch):
    search(parts())
    before = text_of("tuned/world.yaml")
    monkeypatch.setattr(tuning, "train", lambda *args: pytest.fail("a trial was made again"))
    search(parts())
    assert text_of("tuned/world.yaml") == before


def test_winners_of_others_and_what_the_user_wrote_stay(parts):
    settings = parts()
    search(settings, output="own.yaml")
    with open("own.yaml", "a") as file:
        file.write("\n# mine\nseed: 7\n")
    search(settings, ("BPR",), output="own.yaml")
    both = yaml.safe_load(text_of("own.yaml"))
    assert {key.partition(".")[0] for key in both} == {"MF", "seed", "BPR"}
    assert "# mine\nseed: 7\n" in text_of("own.yaml")

    with pytest.raises(UsageError, match=r"own.yaml has winners of MF already, .*--overwrite"):
        search(settings, output="own.yaml", study="other.db")
    _, (winner,) = search({**settings, "overwrite": True}, output="own.yaml", trials=1)
    text = text_of("own.yaml")
    assert text.count("MF.learning_rate") == 1
    assert yaml.safe_load(text)["MF.learning_rate"] == winner.values["learning_rate"]


def test_what_is_given_is_not_searched(parts):
    _, (winner,) = search({**parts(), "learning_rate": 0.03, "MF.reg_weight": 4.0})
    assert not {"learning_rate", "reg_weight"} & winner.values.keys()
    assert "reg_bias" in winner.values


def test_a_space_of_ones_own(parts):
    """Lists can hold lists; a model without a space of ours is searched by the user's."""
    with open("mine.yaml", "w") as file:
        file.write("WDL: {mlp_hidden_size: [[4], [8, 4]]}\nDMF: {learning_rate: [0.01, 0.02]}\n")
    _, (wdl,) = search(parts(), ("WDL",), space="mine.yaml")
    assert list(wdl.values) == ["mlp_hidden_size"]
    assert wdl.values["mlp_hidden_size"] in ([4], [8, 4])
    with pytest.raises(UsageError, match="DMF has no search space; give one with --space=FILE"):
        search(parts(), ("DMF",))
    assert list(space_of("DMF", read_spaces("mine.yaml"))) == ["learning_rate"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("MF: {reg_weight: 3}", "MF.reg_weight=3 is neither a list"),
        ("MF: {reg_weight: {from: 0, to: 3, log: True}}", "begins above 0"),
        ("MF: {reg_weight: {from: 3, to: 1}}", "is no range of numbers"),
        ("MF: {reg_weight: {from: -1, to: 1}}", "reg_weight=-1 is below 0"),
        ("MF: {reg_weigt: [1]}", "reg_weigt is known neither .*did you mean reg_weight"),
        ("MF: {topk: [5]}", "topk is no setting of MF"),
        ("MF: {embedding_size: [0, 8]}", "embedding_size=0 is not above 0"),
        ("MF: [", "space=bad.yaml cannot be read"),
    ],
)
def test_a_space_that_cannot_be(written, message):
    with open("bad.yaml", "w") as file:
        file.write(written)
    with pytest.raises(UsageError, match=message):
        space_of("MF", read_spaces("bad.yaml"))


@pytest.mark.parametrize("model", SHIPPED)
def test_our_spaces_hold_the_usual_settings(model):
    """So that a search can only be as good as them or better, on validation."""
    for key, part in space_of(model, read_spaces(None)).items():
        assert part.stored(model_values(model)[key]) is not None, key


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["EXP3RT"], {}, "asks a language model"),
        (["XRec"], {}, "model=XRec is an explainer"),
        ([], {}, "no model to search"),
        (["MFF"], {}, "model=MFF is not a model"),
        (["MF"], {"trial": 3}, "trial is no option of a search.*trials"),
        (["MF"], {"trials": 0}, "trials=0 is not a whole number from 1"),
        (["MF"], {"minutes": -1}, "minutes=-1.0 is not above 0"),
    ],
)
def test_a_search_that_cannot_be(parts, models, options, message):
    with pytest.raises(UsageError, match=message):
        search(parts(), models, **options)


def test_without_validation_rows_there_is_nothing_to_choose_on(make_world):
    rows = structured_rows(10, 12, per_user=5)
    make_world({"train": rows[:40], "test": rows[40:]})
    with pytest.raises(UsageError, match="no validation rows to choose on; let eval_args"):
        search({**SMALL, "benchmark_filename": ["train", "valid", "test"]})


def test_a_trial_below_the_median_is_ended_early(parts, monkeypatch):
    """With one value that cannot learn, what is pruned is what has it."""
    monkeypatch.setattr(tuning, "FIRST", 2)
    monkeypatch.setattr(tuning, "WARM_UP", 1)
    with open("space.yaml", "w") as file:
        file.write("MF: {learning_rate: [0.05, 0.0000001]}\n")
    said, (winner,) = search(parts(), space="space.yaml", trials=8)
    ended = [line for line in said.splitlines() if "ended early" in line]
    assert ended
    assert all("learning_rate=1e-07" in line for line in ended)
    assert winner.values == {"learning_rate": 0.05}


def test_whoever_watches_a_training_can_end_it(parts):
    """Given settings are not blamed for it."""
    config = Config("MF", "world", config_dict={**parts(), "embedding_size": 4})
    seen = []

    def watch(epoch, score):
        seen.append((epoch, score))
        if epoch == 1:
            raise StopTraining

    with pytest.raises(StopTraining):
        train("MF", config, load_split(config), watch)
    assert [epoch for epoch, _ in seen] == [0, 1]


def test_a_setting_of_one_model_stays_with_it(parts):
    """`MF.…` of a file is MF's alone, whichever model the run has; a command line wins over it."""
    with open("mine.yaml", "w") as file:
        file.write("MF.embedding_size: 4\nMF.train_batch_size: 32\nBPR.epochs: 9\nepochs: 5\n")
    usual = Config("MF", "world", config_dict=parts())
    for model in ("MF", "BPR", "Bias"):
        run = Config(model, "world", ["mine.yaml"], {k: v for k, v in parts().items()
                                                    if k != "epochs"})  # fmt: skip
        mf, bpr = run.for_model("MF"), run.for_model("BPR")
        assert (mf["embedding_size"], mf["train_batch_size"], mf["epochs"]) == (4, 32, 5)
        assert bpr["embedding_size"] == usual.for_model("BPR")["embedding_size"] != 4
        assert (bpr["train_batch_size"], bpr["epochs"]) == (256, 9)
        assert run.for_model("BPR", epochs=2)["epochs"] == 2  # as a refit wants it
    line = Config("MF", "world", ["mine.yaml"], parts(), ["--embedding_size=6"])
    assert line["embedding_size"] == line.for_model("MF")["embedding_size"] == 6


def test_the_refit_of_a_model_with_its_own_epochs_has_the_chosen_number(parts):
    own = {"MF.epochs": 30, "MF.stopping_step": 3, "MF.learning_rate": 0.1, "MF.search": None}
    config = Config("Bias", "world", config_dict={**parts(), **own})
    split = load_split(config)
    fitted = fit("MF", config, split)
    assert fitted.refitted
    assert fitted.epochs == train("MF", config, split).epochs < 30


def test_the_command_line(parts, capsys):
    with open("world.yaml", "w") as file:
        yaml.safe_dump(parts(), file)
    line = ["tune", "--model=MF,BPR", "-d", "world", "--config_files=world.yaml", "--trials=2"]
    assert main([*line, "--seeds", "1", "--epochs=1", "--finalists=1"]) == 0
    said = capsys.readouterr().out
    assert "written to tuned/world.yaml" in said
    assert {key.partition(".")[0] for key in yaml.safe_load(text_of("tuned/world.yaml"))} == {
        *("MF", "BPR")
    }
    assert main(["tune", "--model=MF", "-d", "world", "--trails=2"]) == 2
    assert "trails" in capsys.readouterr().err
