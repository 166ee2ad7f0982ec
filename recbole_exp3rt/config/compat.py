"""Everything that RecBole 1.2.1 needs to run on today's libraries, each shim with its reason.

All become needless with a RecBole that follows its libraries. `apply()` is called before any
module of ours imports recbole; what only concerns our trainers is taken in by `trainer.py`.
`apply_to_trainers()` and `apply_to_quick_start()` mend RecBole's own, for scripts that use them.
Not here, because a constraint is enough: pandas 3 corrupts RecBole's padding row (`pandas<3`).
"""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.local import waiting


def apply() -> None:
    """Make `import recbole` and what follows work. Cheap to call again."""
    waiting.choose()  # recbole imports torch
    _numpy_names()
    _scipy_dok_update()
    _quiet_warnings()


def _numpy_names() -> None:
    """RecBole writes `np.float`, `np.bool` …; numpy dropped them in 1.24 (bool, long came back).

    Its Config also reads `np.float_`, `np.complex_` and `np.unicode_`, which numpy 2 dropped.
    """
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
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
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


def create_dataset(config: Any) -> Any:
    """RecBole's `create_dataset`, out of the atomic files alone.

    RecBole unpickles `<checkpoint_dir>/<name>-Dataset.pth` wherever there is one, which can run
    code, and tells a stale one by its settings only, not by the files it was made of.
    """
    from recbole.data import create_dataset as create

    given = {key: config[key] for key in ("dataset_save_path", "save_dataset")}
    config["dataset_save_path"] = "\0"  # no file has this name; None would mean the default
    config["save_dataset"] = False  # nobody would read it
    try:
        return create(config)
    finally:
        for key, value in given.items():
            config[key] = value


def read_plain_arrays() -> None:
    """LDiffRec reads `item_emb.npy` beside the atomic files, pickled objects and all."""
    import numpy as np

    module: Any = sys.modules.get("recbole.model.general_recommender.ldiffrec")
    if module is not None:
        module.np = _Instead(np, load=lambda file, **_: np.load(file, allow_pickle=False))


# --- RecBole's own trainers and quick start, in a user's script


class _Checkpoints:
    """Reads RecBole's checkpoints: torch >= 2.6 refuses them, as they hold a pickled Config.

    Unpickling can run code, so only files that this process wrote are read without `trusted`.
    The same holds for saved data sets and loaders, which RecBole reads wherever it finds them.
    """

    def __init__(self) -> None:
        self.trusted = False
        self.written: dict[Path, tuple[int, int]] = {}  # path -> its time and size since

    def save(self, obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        import torch

        torch.save(obj, f, *args, **kwargs)
        if isinstance(f, (str, Path)):
            self.written[Path(f).resolve()] = _stamp(f)

    def load(self, f: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises: UsageError for a file of others that holds more than plain tensors."""
        from torch.serialization import load

        kwargs["weights_only"] = not (self.trusted or self.own(f))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                return load(f, *args, **kwargs)
        except pickle.UnpicklingError as error:
            if not kwargs["weights_only"]:
                raise
            raise _foreign(f) from error

    def dump(self, obj: Any, file: Any) -> None:
        pickle.dump(obj, file)
        file.flush()  # closing it writes no more, so its stamp stays
        self.written[Path(file.name).resolve()] = _stamp(file.name)

    def unpickle(self, file: Any) -> Any:
        """Raises: UsageError for a file of others."""
        if not (self.trusted or self.own(file.name)):
            raise _foreign(file.name)
        return pickle.load(file)

    def own(self, f: Any) -> bool:
        if not isinstance(f, (str, Path)) or not Path(f).is_file():
            return False
        return self.written.get(Path(f).resolve()) == _stamp(f)


def _foreign(path: Any) -> UsageError:
    return UsageError(
        f"{path} was not written by this process, and reading it can run code; if you made it "
        "yourself, call recbole_exp3rt.register(trust_checkpoint=True), else move it away"
    )


def _stamp(path: str | Path) -> tuple[int, int]:
    stat = Path(path).stat()
    return stat.st_mtime_ns, stat.st_size


CHECKPOINTS = _Checkpoints()


class _Instead:
    """A module as one module of RecBole's sees it: some names are others."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def apply_to_trainers() -> None:
    """RecBole's trainers read the checkpoints that they wrote, and measure every metric.

    No saved data set or loader of others is read. RecBole's exhaustive search gives
    hyperopt >= 0.2.7 a `RandomState`, where that takes a `Generator`.
    """
    apply()
    import numpy as np
    import recbole.trainer.hyper_tuning as tuning
    import recbole.trainer.trainer as trainer
    import torch

    for name in ("recbole.data.utils", "recbole.data.dataset.dataset"):
        module: Any = import_module(name)
        module.pickle = _Instead(pickle, dump=CHECKPOINTS.dump, load=CHECKPOINTS.unpickle)
    trainer.torch = _Instead(torch, save=CHECKPOINTS.save, load=CHECKPOINTS.load)
    trainer.Collector = make_collector
    import_module("recbole.model.general_recommender.ldiffrec")
    read_plain_arrays()
    tuning.np = _Instead(np, random=_Instead(np.random, RandomState=np.random.default_rng))


def apply_to_quick_start() -> Any:
    """Make `recbole.quick_start` work, and return it."""
    apply_to_trainers()
    _stand_in_for_ray()
    import recbole.quick_start
    from recbole.quick_start import quick_start as module

    if not hasattr(module.load_data_and_model, "__wrapped__"):
        module.load_data_and_model = _reads_checkpoints(module.load_data_and_model)
        recbole.quick_start.load_data_and_model = module.load_data_and_model
    return module


def _reads_checkpoints(function: Any) -> Any:
    """`load_data_and_model` imports torch inside, so it is lent another `torch.load` meanwhile."""
    import torch

    @wraps(function)
    def wrapper(model_file: Any) -> Any:
        original = torch.load
        torch.load = CHECKPOINTS.load
        try:
            return function(model_file)
        finally:
            torch.load = original

    return wrapper


def _stand_in_for_ray() -> None:
    """RecBole needs ray <= 2.6.3 for one call, `tune.report`; with numpy 2 it does not import."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ray's own use of pkg_resources
            import ray.tune
    except Exception:  # of many kinds: missing modules, names that numpy dropped
        ray, tune = ModuleType("ray"), ModuleType("ray.tune")
        vars(tune)["report"] = lambda **metrics: None
        vars(ray)["tune"] = tune
        sys.modules.update({"ray": ray, "ray.tune": tune})
