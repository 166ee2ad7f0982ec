"""Joins a Ray cluster, or starts one on this machine."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from recbole_exp3rt.errors import NotHere, UsageError

NEEDED = "workers=ray needs Ray: pip install 'recbole-exp3rt[ray]'"
# Without its token a cluster does not answer at all.
TOKEN = "; where it has a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE"
HERE = "ray"  # this machine, or the cluster that Ray's own RAY_ADDRESS names
CLIENT = "ray://"
# A model on CPUs would wait for all others; what Ray logs for its authors is not for users.
OWN = {"RAY_worker_niceness": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
# What Ray does where nobody sets up clusters: all its servers listen on 127.0.0.1 alone. It is read
# when Ray is imported. (`_node_ip_address="127.0.0.1"` becomes the address of the machine again.)
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Of an actor with a model, at most; all of them take half of the cluster's CPUs at most, as what
# reads and shuffles rows needs room beside them.
CPUS = 0.25


@dataclass(frozen=True)
class ClusterOptions:
    """Where the models of a run live: settings `workers`, `num_workers` and `worker_gpus`."""

    address: str = HERE  # or ray://host:port
    number: int | None = None  # None: one for the GPUs of each worker, else one a node
    gpus: float | None = None  # of each worker; None: 1 where a local model can have one

    def __post_init__(self) -> None:
        if self.address != HERE and not self.address.startswith(CLIENT):
            raise UsageError(
                f"workers={self.address} is neither ray (this machine, or the cluster that "
                "RAY_ADDRESS names) nor ray://host:10001"
            )


@dataclass(frozen=True)
class Room:
    """What a cluster gives to the workers of one model."""

    workers: int
    gpus: float  # of each worker
    cpus: float = CPUS  # of each worker

    @property
    def resources(self) -> dict[str, Any]:
        """What Ray is asked for, for one worker."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def ray_module(here: bool = False) -> Any:
    """Ray; `here`: for a cluster of this machine. Raises: NotHere if it is not installed."""
    for key, value in {**OWN, **(LOOPBACK if here else {})}.items():
        os.environ.setdefault(key, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise NotHere(NEEDED) from error
    return ray


def connect(address: str = HERE) -> Any:
    """Ray, connected; a connection of this process is used again.

    Without RAY_ADDRESS `ray` means a new cluster on this machine, which no other one can reach: an
    old one may be ending. Raises: UsageError if nobody answers at the address.
    """
    where = address if address != HERE else os.environ.get("RAY_ADDRESS") or "local"
    ray = ray_module(here=where == "local")
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if where == "local":
        options["include_dashboard"] = False
    try:
        ray.init(address=where, **options)
    except Exception as error:  # where a node does not start in time Ray raises just that
        reason = " ".join(str(error).split())[:200]
        if where == "local":
            raise UsageError(f"workers={address}: Ray did not start: {reason}") from error
        hint = TOKEN if where.startswith(CLIENT) else ""
        raise UsageError(f"workers={address}: no Ray cluster at {where}: {reason}{hint}") from error
    return ray


def check_is_node(ray: Any, address: str) -> None:
    """Raises: UsageError if this process reaches the cluster by Ray's client alone."""
    if ray.util.client.ray.is_connected():
        raise UsageError(
            f"workers={address}: scale works with data on the machines of the cluster; start it on "
            "one of them, with workers=ray and RAY_ADDRESS=auto"
        )


def room(ray: Any, options: ClusterOptions, *, local: bool) -> Room:
    """How many workers a model gets, and with how many GPUs each; `local`: it can use them.

    Raises: UsageError if the cluster does not have them.
    """
    there = float(ray.cluster_resources().get("GPU", 0.0))
    gpus = options.gpus if options.gpus is not None else 1.0 if local and there else 0.0
    nodes = len([node for node in ray.nodes() if node["Alive"]])
    number = options.number or (int(there // gpus) if gpus else nodes) or 1
    if number * gpus > there:
        raise UsageError(
            f"{number} workers with {gpus:g} GPUs each need {number * gpus:g} GPUs, and the "
            f"cluster has {there:g}: give a smaller num_workers or worker_gpus"
        )
    cpus = float(ray.cluster_resources().get("CPU", 1.0))
    return Room(number, gpus, min(CPUS, cpus / 2 / number))


def machines(ray: Any) -> set[str]:
    """The names of the machines of a cluster; two nodes may be on one."""
    return {str(node["NodeManagerHostname"]) for node in ray.nodes() if node["Alive"]}


def set_up_data(ray: Any) -> None:
    """Ray Data as this package needs it: few blocks where there are few rows, nothing on screen."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # this package says what is done
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # it starts 32 processes to read the footers of one file
    context.read_op_min_num_blocks = max(2, int(ray.cluster_resources().get("CPU", 1)))
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def beside_the_driver(ray: Any) -> Any:
    """Where an actor has to be that lives as long as the driver."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
