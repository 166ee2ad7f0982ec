"""Whoever was cut off from the store knows that its claims have lapsed, also once it is back."""

import time

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm import claims
from recbole_exp3rt.llm.claims import Claims


class CutOff:
    """A store that can be cut off; it gives all claims and counts renewals."""

    def __init__(self):
        self.away, self.renewals = False, 0

    def claim(self, owner, keys, seconds):
        return set(keys)

    def renew(self, owner, seconds):
        if self.away:
            raise UsageError("the server cannot be reached")
        self.renewals += 1

    def release(self, owner, keys):
        pass


def test_claims_that_lapsed_are_to_be_taken_again(monkeypatch):
    monkeypatch.setattr(claims, "LAPSE_SECONDS", 0.4)
    store = CutOff()
    with Claims(store) as held:
        assert held.lapsed  # nothing is taken yet
        held.take(["k"])
        time.sleep(0.8)
        assert not held.lapsed and store.renewals  # kept by the heartbeat
        store.away = True
        time.sleep(0.8)
        assert held.lapsed
        store.away, before = False, store.renewals
        while store.renewals < before + 2:
            time.sleep(0.01)
        assert held.lapsed  # others may have asked in between
        held.take(["k"])
        assert not held.lapsed
