"""What each user has chosen in the train part, in the order of time: what a sequence is made of."""

from __future__ import annotations

from typing import Any

from recbole_exp3rt.data.train_corpus import column


def histories(dataset: Any) -> dict[str, list[str]]:
    """Raw user -> raw items, the latest last, out of `dataset`, the train part after its `build()`.

    An item that a user has several times stands at its latest time. At equal times, and without
    times, the smaller id comes first, so that no other row decides about the order.
    """
    users, items = (
        dataset.id2token(field, column(dataset, field).astype(int))
        for field in (dataset.uid_field, dataset.iid_field)
    )
    times = column(dataset, dataset.time_field)
    latest: dict[str, dict[str, float]] = {}
    for row, (user, item) in enumerate(zip(map(str, users), map(str, items), strict=True)):
        time = 0.0 if times is None else float(times[row])
        known = latest.setdefault(user, {})
        known[item] = max(time, known.get(item, time))
    return {
        user: sorted(known, key=lambda item: (known[item], item)) for user, known in latest.items()
    }
