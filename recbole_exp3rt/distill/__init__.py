"""Distillation: a teacher's answers become training data, and a student is trained on them.

`annotate` asks the teacher and writes a folder of training data. `train` trains a student on such
a folder. `run` does both for one run of the command line (`--train=True`).
"""
