"""Files that RecBole pickles, in a user's script: whose they are, and what they learned from."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from worlds import Evil, prepare, structured_rows, write_inter

import recbole_exp3rt
from recbole_exp3rt import UsageError, make_reranking_trainer
from recbole_exp3rt.config.compat import CHECKPOINTS
from recbole_exp3rt.rerank.reranker import KeepOrder


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py"])  # RecBole's Config reads the command line
    recbole_exp3rt.register()
    write_inter(tmp_path / "dataset" / "world" / "world.inter", structured_rows(n_items=60))


def test_a_checkpoint_of_others_needs_trust():
    from recbole.quick_start import load_data_and_model
    from recbole.trainer import Trainer

    config, train, valid, test, model = prepare("BPR")
    trainer = Trainer(config, model)
    trainer.fit(train, valid, verbose=False)
    foreign = Path("saved", "foreign.pth")
    Path(trainer.saved_model_file).rename(foreign)
    again = Trainer(config, model)
    reads = (
        lambda: again.evaluate(test, model_file=foreign),
        lambda: again.resume_checkpoint(foreign),
        lambda: load_data_and_model(foreign),
    )
    load = torch.load
    for read in reads:
        with pytest.raises(UsageError, match="was not written by this process"):
            read()
    recbole_exp3rt.register(trust_checkpoint=True)
    for read in reads:
        read()
    assert torch.load is load and again.start_epoch == 2
    recbole_exp3rt.register()
    assert not CHECKPOINTS.trusted


def test_a_file_that_was_changed_since_is_no_longer_ours():
    from recbole.trainer import Trainer

    config, train, _, test, model = prepare("BPR")
    trainer = Trainer(config, model)
    trainer.fit(train, verbose=False)
    trainer.evaluate(test)
    stored = torch.load(trainer.saved_model_file, weights_only=False)
    torch.save({**stored, "changed": 1}, trainer.saved_model_file)
    with pytest.raises(UsageError, match="was not written by this process"):
        trainer.evaluate(test)


@pytest.mark.parametrize("file", ["world-Dataset.pth", "world-for-BPR-dataloader.pth"])
def test_saved_data_of_others_needs_trust(file, tmp_path):
    prepare("BPR", save_dataset=True, save_dataloaders=True)
    prepare("BPR")  # what this process wrote is read
    executed = tmp_path / "executed"
    Path("saved", file).write_bytes(pickle.dumps(Evil(executed)))
    with pytest.raises(UsageError, match=rf"saved/{file} was not written by this process"):
        prepare("BPR")
    assert not executed.exists()
    recbole_exp3rt.register(trust_checkpoint=True)
    with pytest.raises((AttributeError, TypeError)):  # a folder's name is no data
        prepare("BPR")
    assert executed.exists()
    recbole_exp3rt.register()


@pytest.mark.parametrize("how", ["evaluate", "resume", "resume and go on"])
def test_a_checkpoint_of_other_users_is_refused(tmp_path, how):
    from recbole.trainer import Trainer

    config, train, valid, _, model = prepare("BPR")
    first = Trainer(config, model)
    first.fit(train, valid, verbose=False)
    renamed = [(f"x{user}", *rest) for user, *rest in structured_rows(n_items=60)]
    write_inter(tmp_path / "dataset" / "other" / "other.inter", renamed)
    config, train, _, test, model = prepare("BPR", dataset="other")  # of the same shapes
    trainer = make_reranking_trainer(Trainer, KeepOrder())(config, model)
    file = first.saved_model_file
    if how != "evaluate":
        trainer.resume_checkpoint(file)
    with pytest.raises(UsageError, match=rf"{file} was trained on other users than .* other;"):
        if how == "evaluate":
            trainer.evaluate(test, model_file=file)
        elif how == "resume":
            trainer.evaluate(test, load_best_model=False)
        else:
            trainer.fit(train)


def test_what_a_checkpoint_learned_from_may_be_gone(tmp_path):
    from recbole.trainer import Trainer

    config, train, valid, test, model = prepare("BPR")
    trainer = make_reranking_trainer(Trainer, KeepOrder())(config, model)
    trainer.fit(train, valid, verbose=False)
    (tmp_path / "dataset" / "world" / "world.inter").unlink()
    with pytest.warns(
        UserWarning, match="cannot be built again .*users and items are not compared"
    ):
        trainer.evaluate(test, model_file=trainer.saved_model_file)
