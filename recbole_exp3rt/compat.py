"""Everything that RecBole 1.2.1 needs to run on today's libraries, each shim with its reason.

All become needless with a RecBole that follows its libraries. `apply()` is called before any
module of ours imports recbole; what only concerns trainers is taken in by `trainer.py`.
Not here, because a constraint is enough: pandas 3 corrupts RecBole's padding row (`pandas<3`).
Never imported: `recbole.quick_start`, which pulls in a ray that does not import any more.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def apply() -> None:
    """Make `import recbole` and what follows work. Cheap to call again."""
    _numpy_names()
    _scipy_dok_update()
    _quiet_warnings()


def _numpy_names() -> None:
    """RecBole writes `np.float`, `np.bool` …; numpy dropped them in 1.24 (bool, long came back)."""
    import numpy as np

    names = {
        "bool": np.bool_,
        "int": np.int_,
        "float": np.float64,
        "complex": np.complex128,
        "object": np.object_,
        "str": np.str_,
        "long": np.int_,
        "unicode": np.str_,
    }
    for name, kind in names.items():
        if name not in vars(np):
            setattr(np, name, kind)


def _scipy_dok_update() -> None:
    """NGCF, GCMC, NCL … fill a graph through `dok_matrix._update`; scipy 1.13 dropped it."""
    import scipy.sparse as sp

    if not hasattr(sp.dok_matrix, "_update"):
        sp.dok_matrix._update = lambda self, entries: self._dict.update(entries)


def _quiet_warnings() -> None:
    """Deprecations that RecBole's user can do nothing about."""
    for module in (r"recbole\.", r"torch\.", r"pandas\.", r"thop\."):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
    # Raised with the caller's stack level: `torch.cuda.amp.GradScaler`, `torch.sparse.FloatTensor`.
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\.GradScaler.*")
    warnings.filterwarnings("ignore", message=r".*torch\.sparse\.\w*Tensor.*is deprecated.*")
    warnings.filterwarnings("ignore", message=r".*Sparse CSR tensor support is in beta.*")


class _NoWriter:
    """Stands for a tensorboard writer and writes nothing."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None: ...

    def add_hparams(self, *args: Any, **kwargs: Any) -> None: ...


@contextmanager
def without_tensorboard() -> Iterator[None]:
    """RecBole opens an event file below `log_tensorboard/` for every trainer that is made."""
    import recbole.trainer.trainer as module

    original = module.get_tensorboard
    module.get_tensorboard = lambda logger: _NoWriter()
    try:
        yield
    finally:
        module.get_tensorboard = original


def make_collector(config: Any) -> Any:
    """A Collector that calls `.cpu()` on tensors only.

    RecBole's calls it on counts and counters too, so ItemCoverage, GiniIndex … fail everywhere.
    """
    import torch
    from recbole.evaluator import Collector

    class TensorCollector(Collector):  # type: ignore[misc]
        def get_data_struct(self) -> Any:
            stored = self.data_struct._data_dict
            for key, value in stored.items():
                if isinstance(value, torch.Tensor):
                    stored[key] = value.cpu()
            collected = copy.deepcopy(self.data_struct)
            for key in ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label"):
                if key in self.data_struct:
                    del self.data_struct[key]
            return collected

    return TensorCollector(config)
