"""Grids of runs: systems x data sets x seeds, resumable, and the paper's tables.

`grid` reads a grid, `cells` says what a cell is, `run` runs it. Knows runs, not how they work."""
