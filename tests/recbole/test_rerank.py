"""Reranking in RecBole's evaluation: what must change, and what cannot."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from worlds import structured_rows

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.rerank.evaluation import evaluate_ranking, relevant_rows
from recbole_exp3rt.rerank.generators import load_generator
from recbole_exp3rt.rerank.reranker import Candidates, new_order
from recbole_exp3rt.rerank.trainer import make_reranking_trainer
from recbole_exp3rt.trainer.fitting import fit


class Keep:
    def rerank(self, lists: Sequence[Candidates]) -> list[list[float]]:
        return [list(one.scores) for one in lists]


class Reverse:
    def rerank(self, lists: Sequence[Candidates]) -> list[list[float]]:
        return [[-score for score in one.scores] for one in lists]


class Scramble:
    """Anything at all, gaps included."""

    def rerank(self, lists: Sequence[Candidates]) -> list[list[float | None]]:
        words = [None, math.nan, 1.0, -2.0, 1.0, 30.0, 0.5]
        return [[words[int(item[1:]) % 7] for item in one.items] for one in lists]


class Refuse:
    def rerank(self, lists: Sequence[Candidates]) -> list[list[None]]:
        return [[None] * len(one.items) for one in lists]


@pytest.fixture
def generated(make_world):
    config = make_world(structured_rows(n_items=60), model="BPR", reg_weight=0.01, epochs=20)
    split = load_split(config)
    return config, split, fit("BPR", config, split, refit=False)


def test_identity_gives_exactly_recbole_s_own_metrics(generated):
    from recbole.data.utils import create_samplers, get_dataloader

    config, split, generator = generated
    parts = [split.part(name) for name in ("train", "valid", "test")]
    sampler = create_samplers(config, split.dataset, parts)[2]
    loader = get_dataloader(config, "test")(config, parts[2], sampler)
    recbole = generator.trainer.evaluate(loader, load_best_model=False)
    base = evaluate_ranking(config, split, generator)
    assert base.metrics == recbole and base.n_users == 60
    assert base.metrics["recall@20"] > 0
    assert evaluate_ranking(config, split, generator, Keep()).metrics == base.metrics
    assert evaluate_ranking(config, split, generator, Refuse()).metrics == base.metrics


@pytest.mark.parametrize("reranker", [Reverse(), Scramble()])
def test_recall_at_the_depth_of_the_lists_never_changes(generated, reranker):
    config, split, generator = generated
    base = evaluate_ranking(config, split, generator).metrics
    after = evaluate_ranking(config, split, generator, reranker).metrics
    assert after["recall@20"] == base["recall@20"]
    assert after["ndcg@5"] != base["ndcg@5"]


def test_history_is_on_no_list_and_every_list_is_full(generated):
    config, split, generator = generated
    history = set(split.pairs("train")) | set(split.pairs("valid"))
    lists = evaluate_ranking(config, split, generator, Reverse()).lists
    for one in lists:
        assert len(one.candidates.items) == 20
        assert not {(one.candidates.user, item) for item in one.candidates.items} & history
        assert one.order == tuple(range(19, -1, -1))
        assert list(one.candidates.scores) == sorted(one.candidates.scores, reverse=True)


# One user, five items: a was seen, the generator says b > c > d > e, and d and e are to be found.
TINY = {
    "train": [("u", "a", 5.0, 0), ("w", "b", 3.0, 0), ("w", "c", 3.0, 0)],
    "valid": [],
    "test": [("u", "d", 5.0, 1), ("u", "e", 2.0, 2)],
}
TINY_CANDIDATES = "user_id\titem_id\tscore\n" + "".join(
    f"u\t{item}\t{score}\n" for item, score in zip("abcde", (9, 4, 3, 2, 1), strict=True)
)


@pytest.fixture
def tiny(make_world, tmp_path):
    config = make_world(TINY, model="BPR", topk=[2, 4], rerank_depth=4)
    (tmp_path / "candidates.tsv").write_text(TINY_CANDIDATES)
    split = load_split(config)
    return config, split, load_generator("candidates.tsv", config, split)


def test_ndcg_by_hand(tiny):
    """b c d e: hits at ranks 3 and 4. Reversed, e d c b: hits at ranks 1 and 2."""
    ideal = 1 + 1 / math.log2(3)
    base = evaluate_ranking(*tiny).metrics
    assert base["recall@2"] == base["ndcg@2"] == 0 and base["recall@4"] == 1
    assert base["ndcg@4"] == pytest.approx((1 / math.log2(4) + 1 / math.log2(5)) / ideal, abs=1e-4)
    after = evaluate_ranking(*tiny, Reverse()).metrics
    assert after == {"recall@2": 1.0, "recall@4": 1.0, "ndcg@2": 1.0, "ndcg@4": 1.0}


def test_only_ratings_from_relevant_from_are_a_success(tiny):
    """e was rated 2 of 5: no success, but still a candidate, as nobody knows beforehand."""
    result = evaluate_ranking(*tiny, Reverse(), relevant_from=4)
    assert result.lists[0].candidates.items == ("b", "c", "d", "e")
    assert result.metrics["ndcg@2"] == pytest.approx(1 / math.log2(3), abs=1e-4)
    with pytest.raises(UsageError, match=r"no test row counts as relevant \(relevant_from=6"):
        evaluate_ranking(*tiny, relevant_from=6)


def test_a_short_list_is_not_filled_up_with_hits(make_world, tmp_path):
    config = make_world(TINY, model="BPR", topk=[2, 4], rerank_depth=4)
    (tmp_path / "short.tsv").write_text("user_id\titem_id\trank\nu\tb\t1\nu\td\t2\n")
    split = load_split(config)
    with pytest.warns(UserWarning, match="1 test users have fewer than 4 candidates"):
        generator = load_generator("short.tsv", config, split)
    for reranker in (None, Reverse()):
        metrics = evaluate_ranking(config, split, generator, reranker).metrics
        assert metrics["recall@4"] == 0.5, "d is listed, e is not"


def test_users_without_candidates_are_misses(make_world, tmp_path):
    parts = TINY | {"test": [*TINY["test"], ("w", "d", 5.0, 1)]}
    config = make_world(parts, model="BPR", topk=[2, 4], rerank_depth=4)
    (tmp_path / "candidates.tsv").write_text(TINY_CANDIDATES)
    split = load_split(config)
    with pytest.warns(UserWarning, match="fewer than 4"):
        generator = load_generator("candidates.tsv", config, split)
    result = evaluate_ranking(config, split, generator, Keep())
    assert result.n_users == 2 and result.metrics["recall@4"] == 0.5
    assert evaluate_ranking(config, split, generator, users=["u"]).metrics["recall@4"] == 1.0


def test_the_same_users_for_generator_and_reranker(generated):
    config, split, generator = generated
    chosen = ["u3", "u30", "u45"]
    for reranker in (None, Reverse()):
        result = evaluate_ranking(config, split, generator, reranker, users=chosen)
        assert sorted(one.candidates.user for one in result.lists) == sorted(chosen)


ORDERS = [
    ([1.0, 3.0, 2.0], (1, 2, 0)),
    ([5.0, 5.0, 5.0], (0, 1, 2)),  # ties keep the base rank
    ([None, 1.0, math.nan, 2.0], (3, 1, 0, 2)),  # without a score: at the end, in their order
    ([None, None], (0, 1)),
    ([], ()),
]


@pytest.mark.parametrize(("scores", "order"), ORDERS)
def test_new_order(scores, order):
    assert new_order(scores) == order


@pytest.mark.parametrize(
    ("depth", "message"),
    [(5, r"rerank_depth=5 is below max\(topk\)=20"), (0, "whole"), ("a", "rerank_depth='a' is no")],
)
def test_lists_must_reach_as_deep_as_the_metrics(generated, depth, message):
    config, split, generator = generated
    with pytest.raises(UsageError, match=message):
        make_reranking_trainer(type(generator.trainer), Keep(), depth)(config, generator.model)
    config["rerank_depth"] = depth
    with pytest.raises(UsageError, match=message):
        evaluate_ranking(config, split, generator)


@pytest.mark.parametrize(
    ("opinions", "message"),
    [
        (lambda lists: [[1.0] for _ in lists], "1 scores for 20 candidates of user u"),
        (lambda lists: [[1.0] * 20], r"1 lists of scores for \d+ lists of candidates"),
    ],
)
def test_a_reranker_must_score_every_candidate(generated, opinions, message):
    class Lazy:
        def rerank(self, lists):
            return opinions(lists)

    with pytest.raises(UsageError, match=message):
        evaluate_ranking(*generated, Lazy())


@pytest.mark.parametrize("reranker", [Keep, None, len])
def test_what_is_no_reranker_is_found_before_any_training(generated, reranker):
    with pytest.raises(UsageError, match="is not an object with a method `rerank"):
        make_reranking_trainer(type(generated[2].trainer), reranker)


def test_the_trainer_reranks_for_any_trainer_class(generated):
    config, _, generator = generated
    trainer = make_reranking_trainer(type(generator.trainer), Keep())(config, generator.model)
    assert isinstance(trainer, type(generator.trainer)) and trainer.depth == 20


def test_scores_of_recbole_s_masking_stay_untouched(generated):
    """The generator's own tensors must not be written to: other rerankers follow."""
    config, split, generator = generated
    weights = {k: v.clone() for k, v in generator.model.state_dict().items()}
    evaluate_ranking(config, split, generator, Reverse())
    for name, value in generator.model.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_test_item_that_is_history_is_neither_candidate_nor_hit(make_world, tmp_path):
    """User u meets e in train and again in test; RecBole would unmask it for being a hit."""
    parts = TINY | {"train": [*TINY["train"], ("u", "e", 3.0, 0)]}
    config = make_world(parts, model="BPR", topk=[2, 4], rerank_depth=4)
    (tmp_path / "candidates.tsv").write_text(TINY_CANDIDATES)
    with pytest.warns(UserWarning, match="1 of 2 test rows are of a user and item that train"):
        split = load_split(config)
    assert [split.pairs("test")[row] for row in relevant_rows(split, None, None)] == [("u", "d")]
    with pytest.warns(UserWarning, match="pairs are of train or validation rows"):
        generator = load_generator("candidates.tsv", config, split)
    result = evaluate_ranking(config, split, generator, Keep())
    assert result.lists[0].candidates.items == ("b", "c", "d")
    assert result.metrics["recall@4"] == 1.0, "of d alone"


def test_ratings_that_are_not_loaded_do_not_switch_relevant_from_off(make_world):
    """Without them every test row would be a success, under the same names of metrics."""
    unrated = {"inter": ["user_id", "item_id", "timestamp"]}
    labels = {"threshold": {"rating": 4}}
    for values, told in (({"load_col": unrated}, "load that column"), (labels, "into labels")):
        split = load_split(make_world(TINY, model="BPR", **values))
        with pytest.raises(UsageError, match=f"relevant_from=4: .*has no ratings.*{told}"):
            relevant_rows(split, None, 4)
        assert len(relevant_rows(split, None, None)) == len(TINY["test"])


def test_scores_that_are_no_numbers_end_the_evaluation(generated):
    config, split, generator = generated
    broken = replace(generator, model=copy.deepcopy(generator.model))
    for weights in broken.model.parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(UsageError, match="scores of 60 users contain NaN"):
        evaluate_ranking(config, split, broken)
