"""Where a cluster listens, and how one is reached from a machine that is no part of it."""

import ipaddress
import os
import subprocess
import sys

LOCAL = """
import psutil
from recbole_exp3rt.cluster.session import connect

ray = connect()
ray.get(ray.remote(lambda: 1).remote())  # a worker listens too
driver = psutil.Process()
for process in [driver, *driver.children(recursive=True)]:
    for one in process.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN:
            print(process.name(), one.laddr.ip)
"""


def test_a_cluster_of_this_machine_listens_on_loopback_alone():
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", LOCAL], env=own, stdout=subprocess.PIPE, text=True)
    listening = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert {"gcs_server", "raylet"} < set(listening)
    for address in map(ipaddress.ip_address, listening.values()):
        assert (getattr(address, "ipv4_mapped", None) or address).is_loopback


CLIENT = """
import sys
import counting
from recbole_exp3rt.cluster.ray_llm import RayLLM
from recbole_exp3rt.cluster.session import ClusterOptions, check_is_node
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Message, Request, answer_all

llm = RayLLM(counting.Loud(), ClusterOptions(sys.argv[1], 2))
try:
    asked = [Request((Message("user", f"film {k}"),)) for k in range(40)]
    print(llm.identity, [one.text for one in answer_all(llm, asked)])
    check_is_node(llm._ray, sys.argv[1])
except UsageError as error:
    print(error)
"""


def client(address, **own):
    """What a process says that is no part of the cluster; its own environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "-c", CLIENT, address]
    done = subprocess.run(
        command, env={**environment, **own}, stdout=subprocess.PIPE, text=True, timeout=240
    )
    return done.stdout.splitlines()


def test_a_client_gets_its_answers_with_the_token_and_is_told_what_it_needs_without(nodes):
    token = {key: os.environ[key] for key in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    answers, *bulk = client(nodes.client, **token)
    assert answers == f"loud {[f'FILM {k}' for k in range(40)]}"
    assert "RAY_ADDRESS=auto" in bulk[0]  # `scale` is refused
    (said,) = client(nodes.client, RAY_AUTH_MODE="disabled")  # waits for 30 s
    assert "RAY_AUTH_TOKEN_PATH" in said
