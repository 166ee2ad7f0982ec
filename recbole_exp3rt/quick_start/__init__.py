"""A run from its settings to its tables: the door for Python, as RecBole's own `quick_start`.

An experiment holds what the tasks of a run share; each task is an object with one method.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"quick_start": ["main", "run", "show"]}
)
