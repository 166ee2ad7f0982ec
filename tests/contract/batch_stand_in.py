"""A server that speaks the Batch routes as OpenAI documents them: files, batches, contents.

It counts what is paid, stops where it is told to (for a client to be killed there), loses replies,
and lets batches expire, fail, or answer a part.
"""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from faulty_proxy import say

from recbole_exp3rt.llm.base import Message, Request

LABELS = "0123456789"
ROOM = 24  # tokens beside `max_new_tokens` where a label is to be written


def ask(n, **settings):
    """A question of its own for each `n`."""
    return Request((Message("user", f"Do you like film{n}"),), **{"max_new_tokens": 4, **settings})


QUESTIONS = [ask(n) for n in range(12)]


def notes(folder):
    """The notes of batches that a run has left in `folder`."""
    return [path.name for path in (folder / "batches").iterdir() if path.name != ".lock"]


def chat(body):
    """Numbered words, and a rating where likely tokens are asked for; None: not answered."""
    last = body["messages"][-1]["content"].split()[-1]
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 40
    words = [f"{n}{last}" for n in range(most - (ROOM if body.get("logprobs") else 0))]
    text, finish = " ".join(words[:30]), "stop" if len(words) > 30 else "length"
    for stop in body.get("stop", ()):
        if stop in text:
            text, finish = text[: text.index(stop)], "stop"
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if body.get("logprobs"):
        best = len(last) % 10
        cue = "\nPredicted User Rating: " if words else ""
        choice["message"]["content"] = f"{text}{cue}{LABELS[best]}"
        top = [{"token": x, "logprob": -abs(k - best) - 1.0} for k, x in enumerate(LABELS)]
        steps = [(text + cue, top), (LABELS[best], top)]
        choice["logprobs"] = {"content": [{"token": t, "top_logprobs": p} for t, p in steps]}
    asked = sum(len(m["content"].split()) for m in body["messages"])
    usage = {"prompt_tokens": asked + 8, "completion_tokens": len(text.split())}
    return {"model": "teacher-2026-01-01", "choices": [choice], "usage": usage}


class BatchServer:
    """`plans` says what becomes of the next batches, `complete` without one.

    `stop_at` is a moment (`uploaded`, `created`, `looked`, `half`): there the server sets `reached`
    and says nothing more until `go` is set. `lose` names moments whose reply is lost once. `lag`
    listings do not show a new batch yet. `paid` counts questions of batches by custom id.
    """

    def __init__(self, reply=chat):
        self.reply = reply
        self.files, self.batches, self.paid = {}, {}, Counter()
        self.plans, self.lose, self.headers, self.asked = [], [], [], Counter()
        self.stop_at, self.reached, self.go = None, threading.Event(), threading.Event()
        self.lag, self.looks, self.refuses = 0, 1, ()
        self.lock = threading.Lock()

    # --- moments

    def at(self, moment, handler=None, start=b""):
        """Whether the reply is lost; stops here if that is asked for."""
        if self.stop_at == moment:
            if start:
                with suppress(OSError):
                    handler.wfile.write(start)
                    handler.wfile.flush()
            self.reached.set()
            self.go.wait(60)
            return True
        if moment in self.lose:
            self.lose.remove(moment)
            return True
        return False

    def resume(self):
        self.stop_at = None
        self.reached.clear()
        self.go.set()

    # --- routes

    def post(self, path, body, handler):
        if path == "/v1/chat/completions":
            return self.chat(json.loads(body))
        if path == "/v1/files":
            head = b"Content-Type: " + handler.headers["Content-Type"].encode() + b"\r\n\r\n"
            parts = BytesParser().parsebytes(head + body).get_payload()
            named = {p.get_param("name", header="content-disposition"): p for p in parts}
            assert named["purpose"].get_payload() == "batch"
            name = f"file-in{len(self.files)}"
            self.files[name] = named["file"].get_payload(decode=True)
            lost = self.at("uploaded")
            return None if lost else (200, {"id": name, "object": "file", "purpose": "batch"})
        if path == "/v1/batches":
            status, said = self.create(json.loads(body))
            return None if status == 200 and self.at("created") else (status, said)
        return 404, {}

    def chat(self, body):
        for name in self.refuses:
            if name in body:
                hint = "; use max_completion_tokens" if name == "max_tokens" else ""
                return 400, {"error": {"message": f"Unsupported parameter: '{name}'{hint}"}}
        return 200, self.reply(body)

    def create(self, body):
        assert body["endpoint"] == "/v1/chat/completions" and body["completion_window"] == "24h"
        plan = self.plans.pop(0) if self.plans else "complete"
        if plan == "broken":
            return 500, {"error": {"message": "out of order"}}
        if plan == "limit":
            return 400, {"error": {"message": "Billing hard limit has been reached"}}
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        assert all(line["method"] == "POST" for line in lines)
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": body["endpoint"], "status": "validating",
            "input_file_id": body["input_file_id"], "completion_window": "24h",
            "created_at": int(time.time()), "metadata": body["metadata"], "looks": self.looks,
            "plan": plan, "lag": self.lag,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }  # fmt: skip
        if plan not in ("fail", "too many"):
            some = len(lines) // 2 if plan in ("expire", "cancel") else len(lines)
            self.paid.update(line["custom_id"] for line in lines[:some])
        return 200, self.shown(name)

    def shown(self, name):
        return {k: v for k, v in self.batches[name].items() if k not in ("plan", "looks", "lag")}

    def end(self, batch):
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        plan, good, bad = batch["plan"], [], []
        if plan in ("fail", "too many"):
            limit = plan == "too many"
            code = "token_limit_exceeded" if limit else "invalid"
            errors = [{"code": code, "message": "Enqueued token limit" if limit else "no good"}]
            batch.update(status="failed", errors={"object": "list", "data": errors})
            return
        half = len(lines) // 2
        for n, line in enumerate(lines):
            entry = {"id": f"r{n}", "custom_id": line["custom_id"], "response": None, "error": None}
            if plan in ("expire", "cancel") and n >= half:
                if plan == "expire":
                    error = {"code": "batch_expired", "message": "This request expired"}
                    bad.append({**entry, "error": error})
                continue
            status, body = self.chat(line["body"])
            if plan == "errors" and n < half:
                status, body = 500, {"error": {"message": "out of order"}}
            if plan == "empty" and n < half:
                body["choices"][0]["message"]["content"] = ""
            if plan == "refused" and n < half:
                status, body = 400, {"error": {"message": "content_filter: no"}}
            entry["response"] = {"status_code": status, "request_id": "x", "body": body}
            (good if status == 200 else bad).append(entry)
        good.reverse()  # in any order
        ended = {"expire": "expired", "cancel": "cancelled"}.get(plan, "completed")
        batch["status"] = ended
        for field, entries in (("output_file_id", good), ("error_file_id", bad)):
            if entries:
                batch[field] = f"file-{field[:3]}{batch['id']}"
                self.files[batch[field]] = b"".join(
                    json.dumps(e, ensure_ascii=False).encode() + b"\n" for e in entries
                )

    def get(self, path, query, handler):
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "teacher", "owned_by": "system"}]}
        if path == "/v1/batches":
            for batch in self.batches.values():
                batch["lag"] -= 1
            names = [n for n in reversed(self.batches) if self.batches[n]["lag"] < 0]
            start = names.index(query["after"][0]) + 1 if "after" in query else 0
            page = names[start : start + min(int(query["limit"][0]), 2)]  # small pages
            more = start + len(page) < len(names)
            return 200, {"object": "list", "data": [*map(self.shown, page)], "has_more": more}
        if path.startswith("/v1/batches/"):
            batch = self.batches.get(path.rpartition("/")[2])
            if batch is None:
                return 404, {"error": {"message": "No such batch"}}
            if batch["status"] in ("validating", "in_progress"):
                batch["looks"] -= 1
                batch["status"] = "in_progress"
                if batch["looks"] < 0:
                    self.end(batch)
            return None if self.at("looked") else (200, self.shown(batch["id"]))
        if path.endswith("/content"):
            content = self.files.get(path.split("/")[3])
            return (404, {}) if content is None else (200, content)
        return 404, {}


@contextmanager
def batches(reply=chat):
    """Yield (the server, its base URL)."""
    server = BatchServer(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do(self, body=None):
            url = urlsplit(self.path)
            with server.lock:
                server.headers.append({k.lower(): v for k, v in self.headers.items()})
                server.asked[self.command, url.path] += 1
            if body is None:
                said = server.get(url.path, parse_qs(url.query), self)
            else:
                said = server.post(url.path, body, self)
            if said is None:
                self.close_connection = True
                return
            status, content = said
            if url.path.endswith("/content") and status == 200:
                moment = "half" if server.stop_at == "half" or "half" in server.lose else None
                if moment:
                    half = len(content) // 2
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if moment in server.lose:
                        self.wfile.write(content[:half])
                    server.at(moment, self, content[:half])
                    self.close_connection = True
                    return
            with suppress(OSError):  # the client may have gone
                say(self, status, content)

        def do_GET(self):
            self.do()

        def do_POST(self):
            self.do(self.rfile.read(int(self.headers["Content-Length"])))

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{http.server_address[1]}/v1"
    finally:
        server.go.set()
        http.shutdown()
        http.server_close()
