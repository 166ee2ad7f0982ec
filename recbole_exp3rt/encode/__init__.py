"""Texts as vectors: sentence encoders by name, and the store that keeps their vectors.

For the systems that compare texts (TextKNN, RGCL, RawReviews). It knows no data set and no model.
"""
