"""The synthetic data set and its oracle."""
