"""A setting that cannot be is named before any work, whichever system of the run has it."""

import subprocess
import sys

import pytest

from recbole_exp3rt.config.checks import MissingDataset
from recbole_exp3rt.config.precheck import precheck
from recbole_exp3rt.config.registry import MODELS, names
from recbole_exp3rt.config.systems import SETTINGS
from recbole_exp3rt.errors import UsageError


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without a data set, which is missed last
    # packages are missed before settings; here all are there
    monkeypatch.setattr("recbole_exp3rt.config.precheck.find_spec", lambda name: name)
    monkeypatch.setattr("recbole_exp3rt.config.precheck.missing_package", lambda name: "")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("RGCL", ["--RGCL.dropout_prob=2"], "dropout_prob=2 is not a number from 0 to 1"),
        ("RGCL", ["--dropout_prob=1"], "dropout_prob=1 is not a number from 0 to below 1"),
        ("RGCL", ["--ed_weight=-1"], "ed_weight=-1 is not a number from 0 on"),
        ("P5", ["--P5.learning_rate=-1"], "learning_rate=-1 is not above 0"),
        ("P5", ["--heads=3"], "d_model=64 is no multiple of heads=3"),
        ("TextKNN", ["--power=0"], "power=0 is not a number above 0"),
        ("TextKNN", ["--search={'power': [1, -2]}"], "power=-2 is not a number above 0"),
        ("TextKNN", ["--TextKNN.k=0"], "k is no setting of TextKNN"),
        ("MF", ["--MF.embedding_size=0"], "embedding_size=0 is not above 0"),
        ("MF", ["--init_std=-1"], "init_std=-1 is not a number from 0 on"),
        ("WDL", ["--dropout_prob=2"], "dropout_prob=2 is not a number from 0 to 1"),
        ("SASRec", ["--hidden_dropout_prob=3"], "hidden_dropout_prob=3 is not a number"),
        ("LLMRec", ["--shots=-1"], "shots=-1 is not a whole number from 0 on"),
    ],
)
def test_of_the_runs_own_model(model, arguments, message):
    with pytest.raises(UsageError, match=f"^(setting .*)?{message}"):
        precheck(model, "sample", arguments=arguments)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("MF", ["--baselines=TextKNN", "--TextKNN.power=-1"], "TextKNN: power=-1 is not"),
        ("MF", ["--baselines=[P5]", "--P5.heads=3"], "P5: d_model=64 is no multiple of heads=3"),
        ("LightGCN", ["--reranker=RGCL", "--RGCL.nd_weight=-1"], "RGCL: nd_weight=-1 is not"),
        ("LightGCN", ["--reranker=TALLRec", "--TALLRec.shots=0"], "TALLRec: shots=0 is not"),
        ("LightGCN", ["--reranker=ZSRanker", "--ZSRanker.boots=0"], "ZSRanker: boots=0 is not"),
        ("LightGCN", ["--reranker=EXP3RT", "--EXP3RT.neighbors=0"], "EXP3RT: neighbors=0 is not"),
        ("Bias", ["--explainer=XRec", "--XRec.experts=0"], "XRec: experts=0 is not"),
        ("MF", ["--baselines=RawReviews", "--RawReviews.reviews=0"], "RawReviews: reviews=0"),
        ("EXP3RT", ["--generator=LightGCN", "--LightGCN.n_layers=0"], "LightGCN.n_layers=0 is"),
    ],
)
def test_of_a_system_beside_it(model, arguments, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        precheck(model, "sample", arguments=arguments)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("RGCL", ["--dropout_prob=0", "--baselines=[TextKNN,P5]", "--P5.preset=original"]),
        ("P5", ["--search={'d_model': [66], 'heads': [3, 6]}"]),  # 64 would not do
        # What shapes the run's own model is not handed on to another that has the same key.
        ("MF", ["--reg_weight=0", "--baselines=TextKNN"]),
        ("LightGCN", ["--reranker=[TALLRec,ZSRanker,EXP3RT]", "--explainer=[XRec,P5]"]),
    ],
)
def test_what_can_be_is_taken(model, arguments):
    with pytest.raises(MissingDataset):
        precheck(model, "sample", arguments=arguments)


@pytest.mark.parametrize(
    ("model", "arguments", "said"),
    [
        ("LLMRec", [], "plays EXP3RT alone, not LLMRec; give --student=smollm2"),
        ("MF", ["--baselines=[RawReviews,TextKNN]"], "plays EXP3RT alone, not RawReviews;"),
        ("EXP3RT", ["--reranker=[TALLRec,EXP3RT]"], "plays EXP3RT alone, not TALLRec;"),
        ("LightGCN", ["--reranker=ZSRanker", "--explainer=XRec"], "not ZSRanker, XRec;"),
    ],
)
def test_the_oracle_says_what_it_can_play_and_what_to_give_instead(model, arguments, said):
    with pytest.raises(UsageError, match=said):
        precheck(model, "sample", arguments=[*arguments, "--student=oracle"])
    with pytest.raises(MissingDataset):
        precheck(model, "sample", arguments=[*arguments, "--student=smollm2"])


def test_the_oracle_plays_exp3rt_as_model_and_as_reranker():
    for model, more in (("EXP3RT", []), ("LightGCN", ["--reranker=[EXP3RT,MF]"])):
        with pytest.raises(MissingDataset):
            precheck(model, "sample", arguments=["--student=oracle", *more])


def test_xrec_over_a_server_is_refused_before_any_work(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with pytest.raises(UsageError, match="XRec needs the weights of its student"):
        precheck("MF", "sample", arguments=["--explainer=XRec", "--student=openai:some"])


def test_every_system_of_ours_that_learns_ratings_or_asks_has_its_settings_read():
    ranks = {"BPR", "LightGCN", "Pop", "WDL"}  # RecBole's own classes read theirs
    plain = {"Template", "SimilarUser", "Popular"}  # explainers without a setting
    assert set(SETTINGS) == set(MODELS) - ranks - plain
    assert {*names("rate")} - set(SETTINGS) == {"WDL"}


def test_the_settings_are_read_without_torch():
    code = "import sys, recbole_exp3rt.config.systems; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
