"""A report of runs: one HTML page, with Markdown, LaTeX, CSV and JSON beside it.

It knows the results of runs and their comparison. It neither runs nor rates anything.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"writing": ["check_report", "write_report"]}
)
