"""The split, the train corpus and the slices of a RecBole data set."""
