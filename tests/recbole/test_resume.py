"""A fit that was stopped goes on, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from worlds import structured_rows

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.trainer import trainer as trainers
from recbole_exp3rt.trainer.fit_cache import FitCache

SEARCHED = {"BPR.search": {"reg_weight": [0.001, 0.1]}, "BPR.embedding_size": 4}
SEARCHED |= {"MF.search": {"reg_weight": [2.0, 20.0]}, "MF.embedding_size": 4}
SEARCHED |= {"SASRec.MAX_ITEM_LIST_LENGTH": 5, "SASRec.n_layers": 1, "SASRec.hidden_size": 8}
SEARCHED |= {"SASRec.inner_size": 8, "MultiVAE.latent_dimension": 8, "LightGCN.n_layers": 1}
SEARCHED |= {"BERT4Rec.MAX_ITEM_LIST_LENGTH": 5, "BERT4Rec.n_layers": 1, "BERT4Rec.hidden_size": 8}
SEARCHED |= {"BERT4Rec.inner_size": 8, "BERT4Rec.mask_ratio": 0.5}
SEARCHED |= {"MultiVAE.mlp_hidden_size": [8], "LightGCN.search": None}
LONG = {"epochs": 4, "stopping_step": 2, "use_gpu": False, "train_batch_size": 512}


class Stopped(KeyboardInterrupt):
    pass


@pytest.fixture
def world(make_world):
    """world(**settings): the Config of a small world whose fits are written after each epoch."""

    def make(**settings):
        rows = structured_rows(30, 25, per_user=10)
        return make_world(rows, **{**LONG, **SEARCHED, "fit_checkpoint_minutes": 0, **settings})

    return make


def fitted(config, model, folder, refit=True):
    cache = FitCache(folder)
    return cache.fit(model, config, load_split(config), refit=refit), cache


def stop_before_epoch(monkeypatch, number):
    """The fit stops before its epoch `number`, counted over all settings of its search."""
    begun = []
    real = trainers.CheckpointMixin._train_epoch

    def counted(self, train_data, epoch_idx, *args, **kwargs):
        begun.append(epoch_idx)
        if len(begun) == number:
            if self.before_epoch:
                self.before_epoch(epoch_idx)
            raise Stopped
        return real(self, train_data, epoch_idx, *args, **kwargs)

    monkeypatch.setattr(trainers.CheckpointMixin, "_train_epoch", counted)
    return begun


def bytes_of(model):
    return {key: value.numpy().tobytes() for key, value in model.state_dict().items()}


def told(one):
    return one.chosen, one.epochs, one.valid_result, one.refitted


# BPR: negative samples; MF: ratings; SASRec: dropout; MultiVAE: a number that counts its steps;
# BERT4Rec: masks drawn by Python's own generator
@pytest.mark.parametrize(
    ("model", "stops", "refit"),
    [
        ("BPR", (3, 9), True),
        ("BPR", (7,), False),
        ("MF", (2, 7), True),
        ("SASRec", (3, 6), True),
        ("MultiVAE", (3,), False),
        ("BERT4Rec", (2,), False),
        ("LightGCN", (3,), False),
    ],
)
def test_the_weights_are_the_same_to_the_bit(world, monkeypatch, tmp_path, model, stops, refit):
    config = world()
    plain, _ = fitted(config, model, tmp_path / "plain", refit)
    for stop in stops:
        with monkeypatch.context() as patch:
            stop_before_epoch(patch, stop)
            with pytest.raises(Stopped):
                fitted(config, model, tmp_path / "kept", refit)
        torch.rand(99)  # whatever else happens between the runs
        with monkeypatch.context() as patch:
            begun = stop_before_epoch(patch, -1)
            again, cache = fitted(config, model, tmp_path / "kept", refit)
        assert cache.went_on[model] == f"epoch {begun[0] + 1}"
        assert bytes_of(again.model) == bytes_of(plain.model) and told(again) == told(plain)
        (file,) = (tmp_path / "kept").iterdir()
        assert file.suffix == ".safetensors"  # the state is removed
        file.unlink()


def test_what_was_done_is_not_done_again(world, monkeypatch, tmp_path):
    config = world(stopping_step=9)
    with monkeypatch.context() as patch:
        stop_before_epoch(patch, 7)  # two settings of four epochs each
        with pytest.raises(Stopped):
            fitted(config, "BPR", tmp_path, refit=False)
    begun = stop_before_epoch(monkeypatch, -1)
    fitted(config, "BPR", tmp_path, refit=False)
    assert begun == [2, 3]


SCRIPT = """
import sys, time
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.trainer import trainer
from recbole_exp3rt.trainer.fit_cache import FitCache

def slow(self, *args, real=trainer.CheckpointMixin._train_epoch, **kwargs):
    found = real(self, *args, **kwargs)
    print("epoch", flush=True)
    time.sleep(0.1)
    return found

trainer.CheckpointMixin._train_epoch = slow
config = Config("SASRec", "world", config_dict=eval(sys.argv[1]))
FitCache("kept").fit("SASRec", config, load_split(config), refit=False)
"""


def test_a_killed_process(world, tmp_path):
    own = {key.removeprefix("SASRec."): v for key, v in SEARCHED.items() if "SASRec" in key}
    config = world(model="SASRec", **own, epochs=12, stopping_step=99)
    given = {key: config[key] for key in ("load_col", "rating_scale")} | LONG | own
    given |= {"epochs": 12, "stopping_step": 99, "fit_checkpoint_minutes": 0}
    command = [sys.executable, "-c", SCRIPT, repr(given)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    for _ in range(4):
        assert process.stdout.readline() == "epoch\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [file.suffix for file in Path("kept").glob("S*")] == [".unfinished"]
    plain, _ = fitted(config, "SASRec", "plain", refit=False)
    again, cache = fitted(config, "SASRec", "kept", refit=False)
    assert int(cache.went_on["SASRec"].split()[1]) > 3
    assert bytes_of(again.model) == bytes_of(plain.model) and told(again) == told(plain)


@pytest.mark.parametrize("damage", [b"", "half", "other"])
def test_a_damaged_state_means_to_begin_again(world, monkeypatch, tmp_path, damage):
    config = world()
    plain, _ = fitted(config, "BPR", tmp_path / "plain")
    with monkeypatch.context() as patch:
        stop_before_epoch(patch, 6)
        with pytest.raises(Stopped):
            fitted(config, "BPR", tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    parts = {"half": whole[: len(whole) // 2], "other": whole.replace(b"cur_step", b"cur_stop")}
    file.write_bytes(parts.get(damage, damage))
    again, _ = fitted(config, "BPR", tmp_path / "kept")
    assert bytes_of(again.model) == bytes_of(plain.model)


@pytest.mark.parametrize(("minutes", "written"), [(0, True), (60, False), (None, False)])
def test_the_state_is_written_as_often_as_told(world, monkeypatch, tmp_path, minutes, written):
    stop_before_epoch(monkeypatch, 3)
    with pytest.raises(Stopped):
        fitted(world(fit_checkpoint_minutes=minutes), "BPR", tmp_path / "kept")
    assert (tmp_path / "kept").exists() == written


def test_a_trainer_with_a_loop_of_its_own_begins_again(world, monkeypatch, tmp_path):
    stop_before_epoch(monkeypatch, 3)
    with pytest.raises(Stopped):
        fitted(world(), "RecVAE", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_no_pickle_is_read(world, monkeypatch, tmp_path):
    """A state that is a pickle is as good as none."""
    from worlds import Evil

    config = world()
    with monkeypatch.context() as patch:
        stop_before_epoch(patch, 3)
        with pytest.raises(Stopped):
            fitted(config, "BPR", tmp_path / "kept", refit=False)
    (file,) = (tmp_path / "kept").iterdir()
    torch.save(Evil(tmp_path / "evil"), file)
    fitted(config, "BPR", tmp_path / "kept", refit=False)
    assert not (tmp_path / "evil").exists()


# --- the size of the folder


def test_files_that_were_used_long_ago_make_room(world, tmp_path):
    configs = [world(**{"BPR.search": None, "seed": seed}) for seed in range(3)]
    kept = tmp_path / "kept"
    foreign = kept / "mine.txt"
    cache = FitCache(kept, gigabytes=1)
    for config in configs[:2]:
        cache.fit("BPR", config, load_split(config), refit=False)
    foreign.write_text("x" * 9_000)
    first, second = sorted(kept.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    size = first.stat().st_size
    for age, file in enumerate((second, first)):
        os.utime(file, (time.time() - 100 + age, time.time() - 100 + age))
    cache.fit("BPR", configs[1], load_split(configs[1]), refit=False)  # a hit: it is used now
    small = FitCache(kept, gigabytes=2.5 * size / 1e9)
    small.fit("BPR", configs[2], load_split(configs[2]), refit=False)
    left = {file.name for file in kept.iterdir()}
    assert second.name in left and first.name not in left and foreign.name in left
    assert len(left) == 3
    nothing = FitCache(kept, gigabytes=0)
    nothing.fit("BPR", configs[0], load_split(configs[0]), refit=False)
    assert len([*kept.glob("*.safetensors")]) == 1  # the newest stays
