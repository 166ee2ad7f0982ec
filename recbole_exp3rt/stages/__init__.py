"""The steps of EXP3RT as pure functions, and the one pipeline that asks them."""
