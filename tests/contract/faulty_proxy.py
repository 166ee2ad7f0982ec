"""A server between the client and the real one that fails in the ways servers fail.

Each POST goes wrong with probability `rate`, in one of the ways of `FAULTS`, drawn from a deck
that a seed shuffles.
"""

import json
import random
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = (
    *("wait", "wait until", "broken", "busy", "reset", "slow", "truncated", "garbled", "empty"),
    "refusal",
)
# A body that says all, in a strange way: the answer is paid, and must not be asked for again.
KEPT = ("content type", "doubled", "redirect", "encoding", "usage")
LOST = ("gateway", "no choices", "html", "drip", "nested")  # no answer arrives


class FaultyProxy:
    """`url` is to be used in place of the real server's; `rate` may change at any time.

    `asked` counts the bodies that reached the real server, by path and body; `seen` the faults.
    """

    def __init__(
        self, target: str, *, rate: float = 0.0, faults=FAULTS, seed: int = 7, port: int = 0
    ) -> None:
        self.target = target.removesuffix("/v1")
        self.rate = rate
        self.faults = faults
        self.random = random.Random(seed)
        self.deck: list[str] = []
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.delivered: Counter[str] = Counter()  # bodies whose answers arrived whole
        self.seen: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.busy = 0
        self.slow = 2.5  # seconds
        self.pause = "0.1"  # seconds, that `wait` asks for
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                proxy.connections.add(self.connection)

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                proxy.forward(self, None)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with proxy.lock:
                    proxy.busy += 1
                try:
                    proxy.answer(self, body)
                finally:
                    with proxy.lock:
                        proxy.busy -= 1

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with suppress(OSError):  # most are closed
                connection.shutdown(socket.SHUT_RDWR)

    def settle(self) -> None:
        """Wait for slow requests that their client has given up."""
        while self.busy:
            time.sleep(0.01)

    def draw(self, path: str) -> str | None:
        with self.lock:
            if self.random.random() >= self.rate:
                return None
            if not self.deck:  # all kinds come equally often
                self.deck = self.random.sample(self.faults, len(self.faults))
            fault = self.deck.pop()
            if fault == "refusal" and not path.endswith("/chat/completions"):
                fault = "empty"
            self.seen[fault] += 1
            return fault

    def answer(self, handler, body: bytes) -> None:
        fault = None if handler.path.endswith("?again") else self.draw(handler.path)
        if fault in (None, *KEPT) and fault != "redirect":
            with self.lock:
                self.delivered[body.decode()] += 1
        if fault == "wait":
            say(handler, 429, {"error": {"message": "slow down"}}, {"Retry-After": self.pause})
        elif fault == "wait until":
            date = formatdate(time.time() + 1, usegmt=True)
            say(handler, 429, {"error": {"message": "slow down"}}, {"Retry-After": date})
        elif fault == "broken":
            say(handler, 500, {"error": {"message": "out of order"}}, {"Retry-After": "0"})
        elif fault == "busy":
            say(handler, 503, "<html>busy</html>", {"Retry-After": "0"})
        elif fault == "reset":
            linger = struct.pack("ii", 1, 0)  # close without a farewell
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "slow":
            time.sleep(self.slow)
            self.forward(handler, body)
        elif fault == "truncated":
            self.forward(handler, body, cut=True)
        elif fault == "garbled":
            say(handler, 200, '{"choices": [{"mess')
        elif fault == "empty":
            say(handler, 200, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]})
        elif fault == "refusal":
            refused = {"content": None, "refusal": "I cannot help with that."}
            say(handler, 200, {"choices": [{"message": refused, "finish_reason": "stop"}]})
        elif fault == "gateway":
            say(handler, 502, "<html>bad gateway</html>", {"Retry-After": "0"})
        elif fault == "no choices":
            say(handler, 200, {"choices": []})
        elif fault == "html":
            say(handler, 200, "<html>Welcome to our wireless network</html>")
        elif fault == "nested":
            say(handler, 200, "[" * 100_000)
        elif fault == "redirect":
            say(handler, 307, "", {"Location": handler.path + "?again"})
        else:
            self.forward(handler, body, strange=fault)

    def forward(
        self, handler, body: bytes | None, cut: bool = False, strange: str | None = None
    ) -> None:
        with self.lock:
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            if body is not None and not cut:
                self.asked[handler.path, body.decode()] += 1
        request = urllib.request.Request(
            self.target + handler.path.partition("?")[0], body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as reply:
                status, said = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        headers = {}
        if strange == "content type":
            headers = {"Content-Type": "text/html; charset=latin-1"}
        elif strange == "doubled":
            headers = {"Content-Length": str(len(said)), "Content-Type": "text/plain"}
        elif strange == "encoding":
            said = said.decode().encode("utf-16")
        elif strange == "usage":
            usage = {"prompt_tokens": -5, "completion_tokens": "many"}
            said = json.dumps(json.loads(said) | {"usage": usage}).encode()
        with suppress(OSError):  # the client may have gone
            if strange == "drip":
                drip(handler, said, self.slow)
            else:
                say(handler, status, said, headers, cut=len(said) // 2 if cut else None)


def drip(handler, content: bytes, seconds: float) -> None:
    """A byte now and then: each comes in time, the whole does not."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for byte in content[:20]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(seconds / 20)
    handler.close_connection = True


def say(handler, status: int, body, headers=None, cut: int | None = None) -> None:
    content = body if isinstance(body, bytes) else str(body).encode()
    if isinstance(body, dict):
        content = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content[:cut])
    if cut is not None:
        handler.close_connection = True


@contextmanager
def between(target: str, **settings):
    proxy = FaultyProxy(target, **settings)
    try:
        yield proxy
    finally:
        proxy.close()
