"""Several servers behind one router that keeps prefixes together: the recipe, played for real.

The servers are llama.cpp's with the embedded model; the router sends a prompt to the server that
has its beginning, as routers before vLLM do.
"""

import hashlib
import json
import sys
import threading
import urllib.request
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
llama_server = pytest.importorskip("llama_server")

from recbole_exp3rt.llm.base import Completion, Message, Request, answer_all  # noqa: E402
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions, OpenAIHTTP  # noqa: E402

START = 100  # characters of a prompt by which the router chooses


class Router(ThreadingHTTPServer):
    """Sends each request on to one of `servers`, by the beginning of its messages."""

    daemon_threads = True

    def __init__(self, servers):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.servers = servers
        self.sent = defaultdict(list)  # server -> beginnings of prompts

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def choose(self, body):
        try:
            asked = json.loads(body)
            start = "".join(m["content"] for m in asked["messages"])[:START]
        except (ValueError, KeyError, TypeError):
            return self.servers[0], None
        number = int(hashlib.sha256(start.encode()).hexdigest(), 16)
        return self.servers[number % len(self.servers)], start


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self, body=None):
        server, start = self.server.choose(body) if body else (self.server.servers[0], None)
        if start is not None:
            self.server.sent[server].append(start)
        target = server.removesuffix("/v1") + self.path
        headers = {"Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(target, body, headers), timeout=120
            ) as got:
                code, answer = got.status, got.read()
        except urllib.error.HTTPError as error:
            code, answer = error.code, error.read()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self):
        self._pass_on()

    def do_POST(self):
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def router():
    started = [llama_server.start(slots=1, context=512) for _ in range(2)]
    router = Router([url for _, url in started])
    threading.Thread(target=router.serve_forever, daemon=True).start()
    yield router
    router.shutdown()
    for process, _ in started:
        process.stdin.close()
        process.wait(timeout=10)


def test_a_router_before_two_servers_keeps_the_prompts_of_a_user_together(router):
    users = [f"User {name} likes " + f"slow films about {name}, " * 5 for name in "abcdef"]
    asked = [
        Request((Message("user", f"{user} Film {k}?"),), max_new_tokens=2)
        for k in range(2)
        for user in users
    ]
    options = HTTPOptions(base_url=(router.url,), readout="parsed", concurrency=2)
    answers = answer_all(OpenAIHTTP("smollm2", options), asked)
    assert all(isinstance(one, Completion) for one in answers)
    one, two = (set(router.sent[server]) for server in router.servers)
    assert one and two and not one & two  # both worked, and no user was at both
