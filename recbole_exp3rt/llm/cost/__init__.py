"""Prices, the estimate before a run, the ledger of what was spent, the budget."""
