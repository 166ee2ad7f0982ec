"""Vectors of texts, and vectors in place of texts.

Sentence encoders by name, with the store that keeps their vectors (TextKNN, RGCL, RawReviews).
Slots: positions in a prompt whose embeddings are given, and adapters that learn them (XRec). It
knows no data set and no recommender.
"""
