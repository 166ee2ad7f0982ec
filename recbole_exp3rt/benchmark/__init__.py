"""Grids of runs: systems x data sets x seeds, resumable, and the paper's tables.

`grid` reads a grid, `cells` says what a cell is, `run` runs it. Knows runs, not how they work.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compare": ["compare_files"],
        "grid": ["Grid", "grid_of", "read_grid"],
        "run": ["Benchmark", "benchmark"],
    },
)
