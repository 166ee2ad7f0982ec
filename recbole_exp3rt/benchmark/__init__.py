"""Grids over systems, data sets and seeds, the paper's tables, the search of hyper-parameters.

May import quick_start and all below; nothing imports it but cli.
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
