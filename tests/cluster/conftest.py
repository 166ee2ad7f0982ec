"""One Ray cluster for all of these tests: two nodes on this machine. Starting it takes long."""

import os
import secrets
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from needed import need

from recbole_exp3rt.cluster.session import LOOPBACK

HERE = Path(__file__).parent
STARTS = 3  # Ray gives a node 15 seconds to start, which a busy machine may need more than once
sys.path.insert(0, str(HERE))


class Nodes:
    """A head, which has the driver, and a node beside it, where one can be killed."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.small = {"object_store_memory": 100_000_000, "include_log_monitor": False}
        # what scales, logs and shows a cluster is not needed here, and takes long to start
        head = {"num_cpus": 3, "include_dashboard": False, "no_monitor": True, **self.small}
        with socket.create_server(("127.0.0.1", 0)) as free:
            head["ray_client_server_port"] = free.getsockname()[1]
        self.client = f"ray://127.0.0.1:{head['ray_client_server_port']}"
        for left in reversed(range(STARTS)):
            try:
                self.cluster = Cluster(initialize_head=True, head_node_args=head)
                break
            except Exception as error:
                if not left or "timed out during startup" not in str(error):
                    raise
        self.address = self.cluster.address

    def add(self):
        """A second node with room of its own."""
        return self.cluster.add_node(num_cpus=2, **self.small)


@pytest.fixture(scope="session")
def nodes():
    """The cluster; this process is its driver. Skipped without Ray, but where CI=true it fails."""
    need(find_spec("ray"), "ray")
    given = {
        # workers import what the tests do, and run as fast as they
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        **LOOPBACK,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(),
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    before = {key: os.environ.get(key) for key in (*given, "RAY_ADDRESS")}
    os.environ.update(given)
    from recbole_exp3rt.cluster.session import connect, ray_module

    ray = ray_module()
    started = Nodes()
    os.environ["RAY_ADDRESS"] = started.address
    started.ray = connect()
    yield started
    ray.shutdown()
    started.cluster.shutdown()
    for key, value in before.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
