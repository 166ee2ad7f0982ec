"""What the user gets wrong is one line with the thing, the value and the remedy; exit code 2."""

import json

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.card import CARD, pair_digest
from recbole_exp3rt.quick_start.quick_start import main

QUICK = ["--use_gpu=False", "--student=oracle", "--eval_pairs=3", "--baselines=[]", "--task=rating"]

# Each new surprise joins: arguments, what the line says.
MISTAKES = [
    (["--modle=EXP3RT"], "modle", "model"),
    (["--eval_pair=3"], "eval_pair", "did you mean eval_pairs"),
    (["--learning_rte=3"], "learning_rte", "did you mean learning_rate"),
    (["--eval_pairs"], "--eval_pairs has no value", "--eval_pairs=VALUE"),
    (["--model=EXPERT"], "model=EXPERT", "did you mean EXP3RT"),
    (["--eval_pairs=-1"], "eval_pairs=-1", "from 1 on"),
    (["--task=rerank", "--rerank_depth=5"], "rerank_depth=5", "max(topk)=20"),
    (["--dataset=nowhere"], "nowhere", "exp3rt convert"),
    (["--rating_model=./no-such-model"], "no-such-model", "hub id"),
    (["--prompt_dir=nowhere"], "prompt_dir=nowhere", "not a folder"),
    (["--task=rerank", "--generator=LightGNC"], "LightGNC", "did you mean LightGCN"),
    (["--task=rerank", "--generator=none.pth"], "none.pth", "does not exist"),
    (["--task=rerank", "--model=EXP3RT", "--relevant_from=99"], "relevant_from=99", "1–10"),
    (["--baselines=[LightGCN]"], "LightGCN predicts no ratings", "MF"),
    (["--baselines=[BPRX]"], "BPRX", "MF"),
    (["--model=BPR", "--task=rating"], "BPR", "MF, WDL, Bias"),
    (["--task=rerank", "--generator=BPR,LightGCN"], "BPR,LightGCN", "[BPR,LightGCN]"),
    (["--eval_pairs=abc"], "eval_pairs='abc'", "is not a number"),
    (["--adapter=nowhere"], "nowhere", "oracle"),
    (["--rating_model=/tmp/no/such"], "/tmp/no/such is no folder", "hub id"),
    (["--max_prompt_tokens=70"], "max_prompt_tokens=70", "give at least"),
    (["--description_fields={'titel': 'Title'}"], "titel", "title"),
    (["--review_file=."], "no reviews at .", "review_file=PATH"),
    (["--review_file=empty.jsonl"], "empty.jsonl has no text", "review_file=PATH"),
    (["--review_file=latin.jsonl"], "latin.jsonl line 1", "UTF-8"),
    (["--store_path=/proc/none/a.sqlite"], "/proc/none/a.sqlite", "another file"),
    (["--config_files=."], "settings file", "directory"),
    (["--learning_rate=0.1"], "learning_rate is no setting of EXP3RT", "--MF.learning_rate=0.1"),
    (["--config_files=nowhere.yaml"], "nowhere.yaml", "config_files"),
    (["--review_file=nowhere.jsonl"], "nowhere.jsonl", "review_file=PATH"),
    (["--rating_scale=[1,5]", "--relevant_from=4"], "outside rating_scale=[1, 5]", "give the"),
    (["--normalize_all=True"], "normalize_all=True changes the ratings", "name the other fields"),
    (["--model=MF", "--generator=Nope"], "generator=Nope is not a model", "checkpoint"),
    (["--model=BPR", "--task=rerank", "--baselines=[Nope]"], "Nope predicts no ratings", "MF"),
    (["--checkpoint_dir=/proc/none"], "/proc/none", "cannot be written"),
    (["--gpu_id=abc"], "gpu_id='abc'", "such as 0,1"),
    (["--model=BPR", "--generator=LightGCN"], "BPR ranks by itself", "a model that rates"),
    (["--seed=4294967296"], "seed=4294967296", "to 4294967295"),
    (["--Bias.reg_weight=0"], "Bias.reg_weight=0", "above 0"),
]


@pytest.mark.parametrize(("arguments", "thing", "remedy"), MISTAKES)
def test_a_mistake_is_one_line_and_nothing_half_written(
    home, monkeypatch, capsys, arguments, thing, remedy
):
    monkeypatch.chdir(home)
    (home / "empty.jsonl").touch()
    (home / "latin.jsonl").write_bytes(b'{"user_id": "\xe9"}\n')
    result = home / "result.json"
    quick = [] if arguments[0].startswith(("--model=BPR", "--model=MF")) else QUICK
    given = {argument.split("=")[0] for argument in arguments}
    rest = [argument for argument in quick if argument.split("=")[0] not in given]
    assert main([*rest, *arguments, f"--result_file={result}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and thing in line and remedy in line
    assert not result.exists() and not list(home.glob("**/*.part"))


ITEM_FILES = [
    ("item_id:token\ttitle:token\nsyn0000\tCafé\n".encode("latin-1"), "is not a table"),
    (b"", "is not a table"),
    (b"title:token\ngenres:token\n", "has no column item_id"),
    (None, "is not a table"),  # a folder
]


@pytest.mark.parametrize(("content", "reason"), ITEM_FILES)
def test_an_item_file_that_cannot_be_read_is_named(tmp_path, content, reason):
    from recbole_exp3rt.data.train_corpus import read_descriptions

    path = tmp_path / "sample.item"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"sample\.item {reason}.*run the converter again"):
        read_descriptions(path, {"title": "Title"})


def test_what_fails_early_leaves_no_folder_behind(home, monkeypatch):
    monkeypatch.chdir(home)
    places = ["--result_file=new/a.json", "--export_dir=new/b", "--checkpoint_dir=new/c"]
    assert main(["--model=Bias", "--use_gpu=False", "--rating_scale=[1,5]", *places]) == 2
    assert not (home / "new").exists()


def test_candidates_of_nobody_in_the_test_part_are_no_success(home, monkeypatch):
    monkeypatch.chdir(home)
    rows = "user_id\titem_id\tscore\nviewer000\tsyn0001\t1\n"
    (home / "one.tsv").write_text(rows)
    few = ["--use_gpu=False", "--model=Bias", "--task=rerank", "--generator=[one.tsv,one.tsv]"]
    assert main([*few, "--rerank_users=3", "--seed=1", "--result_file=nobody.json"]) == 0
    table = json.loads((home / "nobody.json").read_text())["rows"]
    assert [row["name"] for row in table] == ["one.tsv", "one.tsv + Bias"]
    assert all(value == 0 for row in table for value in row["metrics"].values())


@pytest.mark.parametrize("path", ["/proc/none/x.json", "dataset", "dataset/sample/sample.inter/x"])
def test_where_no_result_can_be_written_nothing_is_asked_or_fitted(home, monkeypatch, capsys, path):
    monkeypatch.chdir(home)
    store = home / "untouched.sqlite"
    assert main([*QUICK, f"--store_path={store}", f"--result_file={path}"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and path in said.err and not store.exists()
    assert "Fitted" not in said.out and not list(home.glob("**/*.part"))


def test_a_generator_that_cannot_be_had_is_found_before_the_rating_work(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    both = [argument for argument in QUICK if "task" not in argument]
    for generator in ("LightGNC", "none.tsv"):
        assert main([*both, f"--generator={generator}"]) == 2
        assert "Fitted" not in capsys.readouterr().out


def test_ctrl_c_ends_in_one_line(home, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(home)
    monkeypatch.setattr("recbole_exp3rt.stages.pipeline.Pipeline.rate", interrupted)
    assert main(QUICK) == 130
    assert capsys.readouterr().err.startswith("stopped; the same command goes on")


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (["--model=MF", "--metrics=['MAE']"], {"mae"}),
        (["--model=BPR", "--metrics=['MRR','NDCG']", "--topk=[7]"], {"mrr@7", "ndcg@7"}),
    ],
)
def test_other_metrics_than_the_usual_have_their_columns(
    home, monkeypatch, capsys, arguments, columns
):
    monkeypatch.chdir(home)
    quick = ["--use_gpu=False", "--epochs=1", "--result_file=metrics.json", "--overwrite=True"]
    assert main([*quick, *arguments, "--search=~"]) == 0
    said = capsys.readouterr().out
    for row in json.loads((home / "metrics.json").read_text())["rows"]:
        assert set(row["metrics"]) == columns
    assert all(column.split("@")[0].upper() in said for column in columns)


def test_a_kept_checkpoint_is_a_generator_of_the_next_run(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    quick = ["--use_gpu=False", "--model=BPR", "--epochs=2", "--search=~", "--result_file=r.json"]
    assert main([*quick, "--save_checkpoints=True"]) == 0
    (path,) = (word for word in capsys.readouterr().out.split() if word.endswith(".pth"))
    fitted = json.loads((home / "r.json").read_text())["rows"][0]
    rerank = ["--model=Bias", "--task=rerank", f"--generator={path}", "--result_file=s.json"]
    assert main(["--use_gpu=False", *rerank]) == 0
    again = json.loads((home / "s.json").read_text())["rows"][0]
    assert again["metrics"] == fitted["metrics"] and again["name"] == path.rpartition("/")[2]


def test_what_is_not_relevant_is_no_success_of_a_whole_run(home, monkeypatch, capsys):
    from recbole_exp3rt.config.configurator import Config
    from recbole_exp3rt.data.split import load_split
    from recbole_exp3rt.rerank.evaluation import evaluate_ranking
    from recbole_exp3rt.rerank.generators import load_generator

    monkeypatch.chdir(home)
    quick = ["--use_gpu=False", "--model=BPR", "--epochs=3", "--search=~", "--relevant_from=9"]
    assert main([*quick, "--save_checkpoints=True", "--result_file=n.json"]) == 0
    (path,) = (word for word in capsys.readouterr().out.split() if word.endswith(".pth"))
    row = json.loads((home / "n.json").read_text())["rows"][0]
    config = Config("BPR", "sample", config_dict={"use_gpu": False})
    split = load_split(config)
    generator = load_generator(path, config, split)
    wanted = evaluate_ranking(config, split, generator, relevant_from=9)
    assert (row["metrics"], row["n"]) == (wanted.metrics, wanted.n_users)
    users = {one.candidates.user for one in wanted.lists}
    assert row["metrics"] != evaluate_ranking(config, split, generator, users=users).metrics


def test_ranking_metrics_of_a_user_stand_in_the_table_of_a_reranking_run(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    rerank = [
        "--task=rerank",
        "--rerank_users=3",
        "--generator=Pop",
        "--metrics=[MRR,Hit,MAP,GAUC]",
    ]
    few = ["--use_gpu=False", "--student=oracle", "--explanations=0", "--result_file=ranks.json"]
    assert main([*few, *rerank, "--topk=[5,10,15,20]", "--valid_metric=MRR@10"]) == 0
    said = capsys.readouterr().out
    for row in json.loads((home / "ranks.json").read_text())["rows"]:
        assert set(row["metrics"]) >= {"mrr@5", "hit@20", "map@10"}
    assert said.count("Pop + EXP3RT  ") == 2, "columns that do not fit stand in a second table"


def test_a_misspelt_part_leaves_the_files_of_a_user_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "dataset" / "sample"  # a user's own, by the name of ours
    folder.mkdir(parents=True)
    for part in ("mytrain", "mytest"):
        (folder / f"sample.{part}.inter").write_text("user_id:token\titem_id:token\n")
    parts = "--benchmark_filename=['mytrain','myvalid','mytset']"
    assert main(["--model=Bias", parts]) == 2
    assert "sample.mytset.inter" in capsys.readouterr().err
    assert sorted(file.name for file in folder.iterdir()) == [
        "sample.mytest.inter",
        "sample.mytrain.inter",
    ]


def test_a_settings_file_names_model_and_data_set_and_the_command_line_wins(
    home, monkeypatch, capsys
):
    monkeypatch.chdir(home)
    (home / "which.yaml").write_text("model: Bias\ndataset: nowhere\nuse_gpu: False\n")
    assert main(["--config_files=which.yaml"]) == 2
    assert "data set nowhere does not exist" in capsys.readouterr().err
    assert main(["--config_files=which.yaml", "--dataset=sample"]) == 0
    assert "Fitted Bias" in capsys.readouterr().out
    assert main(["--config_files=which.yaml", "--dataset=sample", "--model=MF2"]) == 2
    assert "model=MF2" in capsys.readouterr().err


def test_the_sample_is_made_where_a_settings_file_looks_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("data_path: elsewhere/\nuse_gpu: False\n")
    assert main(["--model=Bias", "--config_files=own.yaml"]) == 0
    assert (tmp_path / "elsewhere/sample/sample.inter").is_file()
    assert not (tmp_path / "dataset").exists()


def test_a_missing_sidecar_stops_a_model_that_reads_text_and_no_other(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    sidecar = home / "dataset" / "sample" / "sample.reviews.jsonl"
    hidden = sidecar.rename(sidecar.with_suffix(".hidden"))
    try:
        assert main(QUICK) == 2
        assert str(sidecar.name) in capsys.readouterr().err
        assert main(["--model=Bias", "--use_gpu=False"]) == 0
    finally:
        hidden.rename(sidecar)


def test_a_student_that_has_seen_test_pairs_is_refused(home, monkeypatch, capsys, tmp_path):
    from recbole_exp3rt.config.configurator import Config
    from recbole_exp3rt.data.split import load_split

    monkeypatch.chdir(home)
    split = load_split(Config("EXP3RT", "sample", config_dict={"use_gpu": False}))
    for pairs, refused in ((split.pairs("train"), False), (split.pairs("test")[:2], True)):
        seen = [pair_digest(*pair) for pair in pairs]
        (tmp_path / CARD).write_text(json.dumps({"train_pairs": seen}))
        assert main([*QUICK, f"--adapter={tmp_path}"]) == 2
        said = capsys.readouterr().err  # the oracle takes no adapter, but that is asked later
        assert ("was trained on 2 of the 366 test pairs" in said) == refused


def test_a_single_pair_is_rated_and_measured(home, monkeypatch):
    monkeypatch.chdir(home)
    arguments = [argument for argument in QUICK if "eval_pairs" not in argument]
    assert main([*arguments, "--eval_pairs=1", "--result_file=one.json"]) == 0
    rows = json.loads((home / "one.json").read_text())["rows"]
    errors = [row["metrics"] for row in rows if row["slice"] == "all"]
    assert all(error["rmse"] == error["mae"] > 0 for error in errors)
