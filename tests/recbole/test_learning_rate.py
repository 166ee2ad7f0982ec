"""A learning rate that falls when validation gets no better."""

from __future__ import annotations

from worlds import structured_rows

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.trainer.fitting import fit


def rates_of(monkeypatch, make_world, scores, **settings):
    """The learning rate of each epoch of MF, where validation gives `scores`."""
    from recbole_exp3rt.trainer.trainer import CheckpointMixin

    rates, left = [], iter(scores)
    original = CheckpointMixin._train_epoch

    def noted(self, *given, **more):
        made = original(self, *given, **more)
        rates.append(self.optimizer.param_groups[0]["lr"])
        return made

    monkeypatch.setattr(CheckpointMixin, "_train_epoch", noted)
    monkeypatch.setattr(
        CheckpointMixin,
        "_valid_epoch",
        lambda *_, **__: (score := next(left), {"rmse": score}),
        raising=False,
    )
    config = make_world(
        structured_rows(n_users=10), model="MF", search=None, epochs=len(scores), **settings
    )
    fitted = fit("MF", config, load_split(config), refit=settings.get("refit", False))
    return rates, fitted


def test_the_learning_rate_halves_after_epochs_without_a_better_validation(monkeypatch, make_world):
    falling = {"learning_rate": 0.8, "learning_rate_patience": 1, "learning_rate_floor": 0.3}
    worse = [1.0, 2, 2, 2, 2, 2, 2, 2, 2]
    rates, fitted = rates_of(monkeypatch, make_world, worse, **falling, stopping_step=3)
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.3, 0.3, 0.3, 0.3], "the count starts again"
    assert fitted.trainer.falls == [3, 5] and fitted.epochs == 1


def test_the_learning_rate_stays_by_default(monkeypatch, make_world):
    rates, _ = rates_of(monkeypatch, make_world, [1.0, 2, 2, 2, 2], learning_rate=0.8)
    assert rates == [0.8] * 5


def test_a_refit_halves_the_learning_rate_in_the_same_epochs(monkeypatch, make_world):
    falling = {"learning_rate": 0.8, "learning_rate_patience": 1, "refit": True}
    scores = [3.0, 4, 4, 2, 1]
    rates, fitted = rates_of(monkeypatch, make_world, scores, **falling)
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.4] * 2 and fitted.refitted
