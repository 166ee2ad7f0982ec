"""One file a system that writes explanations: pairs of raw tokens in, texts out.

Each has a method `explain`; EXP3RT and P5, which explain too, stand in `model/`. It knows the
train part alone.
"""
