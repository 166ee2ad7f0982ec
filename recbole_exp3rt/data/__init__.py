"""The split of a RecBole data set, the corpus of its train part, and the slices of its users.

Everything that a model may read comes from the train part. This room does not know models.
"""
