"""The changes that RecBole 1.2.1 needs with today's libraries, each with its reason.

`apply()` is called before a module of ours imports recbole. `trainer.py` uses what concerns our
trainers. `apply_to_trainers()` and `apply_to_quick_start()` change RecBole's own, for scripts that
use them. pandas 3 corrupts RecBole's padding row; a constraint (`pandas<3`) is enough for this.
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

from recbole_exp3rt.config.clock import Clock
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.local import waiting


def apply() -> None:
    """Make `import recbole` work. Further calls are cheap."""
    waiting.choose()  # recbole imports torch
    _numpy_names()
    _scipy_dok_update()
    _quiet_warnings()


def _numpy_names() -> None:
    """RecBole uses `np.float`, `np.bool` …, which numpy 1.24 removed (bool and long came back).

    Its Config also uses `np.float_`, `np.complex_` and `np.unicode_`, which numpy 2 removed.
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
    """NGCF, GCMC, NCL … build a graph with `dok_matrix._update`, which scipy 1.13 removed."""
    import scipy.sparse as sp

    if not hasattr(sp.dok_matrix, "_update"):
        sp.dok_matrix._update = lambda self, entries: self._dict.update(entries)


def _quiet_warnings() -> None:
    """Hide deprecation warnings about RecBole's own code."""
    for module in (r"recbole\.", r"torch\.", r"pandas\.", r"thop\."):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
    # These have the stack level of the caller, so no module can be named.
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\.GradScaler.*")
    warnings.filterwarnings("ignore", message=r".*torch\.sparse\.\w*Tensor.*is deprecated.*")
    warnings.filterwarnings("ignore", message=r".*Sparse CSR tensor support is in beta.*")


@contextmanager
def no_search_for_anomalies() -> Iterator[None]:
    """Leave torch as it was: RecBole's SINE, which comes with every sequential model, turns on
    autograd's search for anomalies, and every training of the process takes several times longer.
    """
    import torch

    before = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(before)


class _NoWriter:
    """A tensorboard writer that writes nothing."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def add_hparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


@contextmanager
def without_tensorboard() -> Iterator[None]:
    """Keep RecBole from writing a file into `log_tensorboard/` for each trainer."""
    import recbole.trainer.trainer as module

    original = module.get_tensorboard
    module.get_tensorboard = lambda logger: _NoWriter()
    try:
        yield
    finally:
        module.get_tensorboard = original


def make_collector(config: Any) -> Any:
    """Make a Collector that calls `.cpu()` on tensors only.

    RecBole's also calls it on numbers and counters, so ItemCoverage, GiniIndex … fail. Its rating
    metrics squeeze the last dimension, which makes a number of a part with one row; a column stays.
    """
    import torch
    from recbole.evaluator import Collector

    class TensorCollector(Collector):  # type: ignore[misc]
        """RecBole's Collector with one method changed."""

        def get_data_struct(self) -> Any:
            """As RecBole's."""
            stored = self.data_struct._data_dict
            for key, value in stored.items():
                if isinstance(value, torch.Tensor):
                    stored[key] = value.cpu()
                    if key in ("rec.score", "data.label") and value.ndim == 1:
                        stored[key] = stored[key].unsqueeze(-1)
            collected = copy.deepcopy(self.data_struct)
            for key in ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label"):
                if key in self.data_struct:
                    del self.data_struct[key]
            return collected

    return TensorCollector(config)


def create_dataset(config: Any, clock: Clock | None = None) -> Any:
    """RecBole's `create_dataset`, but always from the atomic files, which are read as columns.

    RecBole unpickles `<checkpoint_dir>/<name>-Dataset.pth` if there is one. This can run code, and
    RecBole does not notice if the atomic files have changed since. `clock` times the reading.
    """
    from recbole.data import create_dataset as create

    _rows_by_tensor()
    given = {key: config[key] for key in ("dataset_save_path", "save_dataset")}
    config["dataset_save_path"] = "\0"  # no file has this name; None would mean the default
    config["save_dataset"] = False  # it would never be read
    try:
        with _reading_columns(clock or Clock()):
            return create(config)
    finally:
        for key, value in given.items():
            config[key] = value


@contextmanager
def _reading_columns(clock: Clock) -> Iterator[None]:
    """Let RecBole's data sets read atomic files as columns (`atomic_files.py`)."""
    from recbole_exp3rt.config.atomic_files import read_csv

    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.part("RecBole's reading"):
            return read_csv(*args, **kwargs)

    module: Any = import_module("recbole.data.dataset.dataset")
    original = module.pd
    module.pd = _Patched(original, read_csv=timed)
    try:
        yield
    finally:
        module.pd = original


def _rows_by_tensor() -> None:
    """RecBole takes rows by a list, which torch converts anew for each column: slow and large."""
    import numpy as np
    import torch
    from recbole.data.interaction import Interaction

    if hasattr(Interaction.__getitem__, "__wrapped__"):
        return
    original = Interaction.__getitem__

    @wraps(original)
    def rows(self: Any, index: Any) -> Any:
        if isinstance(index, (list, np.ndarray, range)) and len(index):
            given = np.asarray(index)
            if given.ndim == 1 and given.dtype in (np.int64, np.bool_):
                taken = torch.from_numpy(given)
                return Interaction({key: self.interaction[key][taken] for key in self.interaction})
        return original(self, index)

    Interaction.__getitem__ = rows


def read_plain_arrays() -> None:
    """Keep LDiffRec from unpickling objects in `item_emb.npy` beside the atomic files."""
    import numpy as np

    module: Any = sys.modules.get("recbole.model.general_recommender.ldiffrec")
    if module is not None:
        module.np = _Patched(np, load=lambda file, **_: np.load(file, allow_pickle=False))


# --- RecBole's own trainers and quick start, in a user's script


class _Checkpoints:
    """Reads RecBole's checkpoints, which torch >= 2.6 refuses because of the pickled Config.

    Unpickling can run code, so without `trusted` only files that this process wrote are
    unpickled. The same applies to RecBole's saved data sets and loaders.
    """

    def __init__(self) -> None:
        """No file is trusted, none is written yet."""
        self.trusted = False
        self.written: dict[Path, tuple[int, int]] = {}  # path -> time and size after writing

    def save(self, obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        """As `torch.save`; notes the file as written by this process."""
        import torch

        torch.save(obj, f, *args, **kwargs)
        if isinstance(f, (str, Path)):
            self.written[Path(f).resolve()] = _stamp(f)

    def load(self, f: Any, *args: Any, **kwargs: Any) -> Any:
        """As `torch.load`.

        Raises: UsageError for a file of another process with more than plain tensors.
        """
        from torch.serialization import load

        kwargs["weights_only"] = not (self.trusted or self.own(f))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                return load(f, *args, **kwargs)
        except pickle.UnpicklingError as error:
            if not kwargs["weights_only"]:
                raise
            raise _not_trusted(f) from error

    def dump(self, obj: Any, file: Any) -> None:
        """As `pickle.dump`; notes the file as written by this process."""
        pickle.dump(obj, file)
        file.flush()  # so closing the file does not change its time and size
        self.written[Path(file.name).resolve()] = _stamp(file.name)

    def unpickle(self, file: Any) -> Any:
        """As `pickle.load`. Raises: UsageError for a file of another process."""
        if not (self.trusted or self.own(file.name)):
            raise _not_trusted(file.name)
        return pickle.load(file)

    def own(self, f: Any) -> bool:
        """Whether this process wrote the file and nothing has changed it since."""
        if not isinstance(f, (str, Path)) or not Path(f).is_file():
            return False
        return self.written.get(Path(f).resolve()) == _stamp(f)


def _not_trusted(path: Any) -> UsageError:
    """The error for a file that another process wrote."""
    return UsageError(
        f"{path} was not written by this process, and reading it can run code; if you made it "
        "yourself, call recbole_exp3rt.register(trust_checkpoint=True), else move it away"
    )


def _stamp(path: str | Path) -> tuple[int, int]:
    """Time of the last change, in nanoseconds, and size in bytes."""
    stat = Path(path).stat()
    return stat.st_mtime_ns, stat.st_size


CHECKPOINTS = _Checkpoints()


class _Patched:
    """A module with some names replaced, for use in one module of RecBole."""

    def __init__(self, module: Any, **names: Any) -> None:
        """`names` replace those of `module`."""
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        """All other names are those of the module."""
        return getattr(self._module, name)


def apply_to_trainers() -> None:
    """Let RecBole's trainers read the checkpoints that they wrote, and measure every metric.

    Saved data sets and loaders of other processes are not read. RecBole's exhaustive search
    passes a `RandomState` to hyperopt, which needs a `Generator` since 0.2.7.
    """
    apply()
    import numpy as np
    import recbole.trainer.hyper_tuning as tuning
    import recbole.trainer.trainer as trainer
    import torch

    for name in ("recbole.data.utils", "recbole.data.dataset.dataset"):
        module: Any = import_module(name)
        module.pickle = _Patched(pickle, dump=CHECKPOINTS.dump, load=CHECKPOINTS.unpickle)
    trainer.torch = _Patched(torch, save=CHECKPOINTS.save, load=CHECKPOINTS.load)
    trainer.Collector = make_collector
    import_module("recbole.model.general_recommender.ldiffrec")
    read_plain_arrays()
    tuning.np = _Patched(np, random=_Patched(np.random, RandomState=np.random.default_rng))


def apply_to_quick_start() -> Any:
    """Make `recbole.quick_start` work, and return it."""
    apply_to_trainers()
    _replace_ray()
    import recbole.quick_start
    from recbole.quick_start import quick_start as module

    if not hasattr(module.load_data_and_model, "__wrapped__"):
        module.load_data_and_model = _with_our_load(module.load_data_and_model)
        recbole.quick_start.load_data_and_model = module.load_data_and_model
    return module


def _with_our_load(function: Any) -> Any:
    """Replace `torch.load` during a call: `load_data_and_model` imports torch inside."""
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


def _replace_ray() -> None:
    """RecBole uses one function of ray <= 2.6.3, `tune.report`; with numpy 2 its import fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ray's own use of pkg_resources
            import ray.tune
    except Exception:  # many kinds: missing modules, names that numpy removed
        ray, tune = ModuleType("ray"), ModuleType("ray.tune")
        vars(tune)["report"] = lambda **metrics: None
        vars(ray)["tune"] = tune
        sys.modules.update({"ray": ray, "ray.tune": tune})
