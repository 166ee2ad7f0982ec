"""The synthetic data set `sample`, and the oracle teacher that answers about it.

`world` makes the reviews, `oracle` answers as a teacher would, `measure` computes the figures of
this folder's README.
"""
