"""Annotation: a teacher answers questions about the train part; good answers are training data.

`run.annotate` does it for a data set; `annotator.Annotator` for a corpus; `quality_gate` says
which answers are good.
"""
