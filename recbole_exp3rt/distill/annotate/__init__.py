"""A teacher's answers about the train part, judged and kept as training data."""
