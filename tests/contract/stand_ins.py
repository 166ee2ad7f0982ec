"""Servers of other kinds, played by llama.cpp: what they document of their bodies, no more.

vLLM: /tokenize, /v1/completions with tokens, `logprob_token_ids`, `allowed_token_ids`. SGLang:
/tokenize, chat's `return_prompt_token_ids`, /generate. Plain: chat alone, as OpenAI gives it.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from faulty_proxy import say


class Refused(Exception):
    """The route answers with an error: status, message."""


class StandIn:
    def __init__(self, target: str, **traits):
        self.root = target.removesuffix("/v1")
        self.traits = traits
        self.asked: list[tuple[str, dict]] = []
        self.steps: dict[tuple[int, ...], dict] = {}

    def real(self, path: str, **body):
        request = urllib.request.Request(
            self.root + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            return json.loads(reply.read())

    def chat(self, messages, asks=True):
        if not asks:  # llama.cpp leaves a last answer open: close it as the next turn would
            text = self.real(
                "/apply-template", messages=[*messages, {"role": "user", "content": "?"}]
            )
            text = text["prompt"].rpartition("<|im_start|>user")[0]
        else:
            text = self.real("/apply-template", messages=messages)["prompt"]
        return self.real("/tokenize", content=text, parse_special=True)["tokens"]

    def logp(self, prompt, wanted):
        if tuple(prompt) not in self.steps:
            body = {"prompt": prompt, "n_predict": 1, "n_probs": 49152, "temperature": 0}
            told = self.real("/completion", **body)
            self.steps[tuple(prompt)] = told["completion_probabilities"][0]
        step = self.steps[tuple(prompt)]
        return step["id"], {
            t["id"]: t["logprob"] for t in step["top_logprobs"] if t["id"] in wanted
        }

    def get(self, path):
        base = {"id": "smollm2", "owned_by": self.owner, "root": "/models/Smol"}
        adapters = [
            {"id": name, "owned_by": self.owner, "root": f"adapters/{name}", "parent": "smollm2"}
            for name in self.traits.get("adapters", ())
        ]
        return {"data": [base, *adapters]}


class VLLM(StandIn):
    owner = "vllm"

    def post(self, path, body):
        if path == "/tokenize" and "messages" in body:
            return {"tokens": self.chat(body["messages"], body["add_generation_prompt"])}
        if path == "/tokenize":
            return self.real("/tokenize", content=body["prompt"], parse_special=True)
        assert path == "/v1/completions"
        assert body["model"] in ("smollm2", *self.traits.get("adapters", ()))
        if "logprobs" not in body:
            said = self.real(
                "/completion", prompt=body["prompt"], n_predict=body["max_tokens"],
                stop=body["stop"], temperature=body["temperature"], seed=body["seed"],
            )  # fmt: skip
            finish = "length" if said["stop_type"] == "limit" else "stop"
            usage = {
                "prompt_tokens": len(body["prompt"]),
                "completion_tokens": said["tokens_predicted"],
            }
            return {"choices": [{"text": said["content"], "finish_reason": finish}], "usage": usage}
        wanted = body.get("logprob_token_ids", [])
        if wanted and self.traits.get("old"):
            wanted = []  # an unknown field is left unread
        wanted = [*wanted, *body.get("allowed_token_ids", [])]
        chosen, told = self.logp(body["prompt"], set(wanted))
        if self.traits.get("masked") and body.get("allowed_token_ids"):
            told = dict.fromkeys(told, 0.0)  # --logprobs-mode processed_logprobs
        top = {f"token_id:{token}": logp for token, logp in told.items()} or {
            f"token_id:{chosen}": -1
        }
        return {"choices": [{"text": "", "logprobs": {"top_logprobs": [top]}}]}


class SGLang(StandIn):
    owner = "sglang"

    def post(self, path, body):
        if path == "/tokenize":
            return self.real("/tokenize", content=body["prompt"], parse_special=True)
        if path == "/v1/chat/completions":
            assert body["return_prompt_token_ids"]
            return {"choices": [{"prompt_token_ids": self.chat(body["messages"])}]}
        assert path == "/generate"
        sampling = body["sampling_params"]
        if body.get("return_logprob"):
            _, told = self.logp(body["input_ids"], set(body["token_ids_logprob"]))
            entries = [[told[token], token, None] for token in body["token_ids_logprob"]]
            return {"text": "x", "meta_info": {"output_token_ids_logprobs": [entries]}}
        said = self.real(
            "/completion", prompt=body["input_ids"], n_predict=sampling["max_new_tokens"],
            stop=sampling["stop"], temperature=sampling["temperature"],
        )  # fmt: skip
        finish = {"type": "length" if said["stop_type"] == "limit" else "stop"}
        return {
            "text": said["content"],
            "meta_info": {
                "finish_reason": finish,
                "prompt_tokens": len(body["input_ids"]),
                "completion_tokens": said["tokens_predicted"],
            },
        }


class Plain(StandIn):
    """`answer` is what it says; `steps` its tokens with their likeliest ones; `slow` in seconds."""

    owner = "openai"

    def post(self, path, body):
        assert path == "/v1/chat/completions"
        time.sleep(self.traits.get("slow", 0))
        for name in self.traits.get("refuses", ()):
            if name in body:
                hint = "; use max_completion_tokens" if name == "max_tokens" else ""
                raise Refused(400, f"Unsupported parameter: '{name}'{hint}")
        choice = {
            "message": {"role": "assistant", "content": self.traits["answer"]},
            "finish_reason": "stop",
        }
        if body.get("logprobs") and "steps" in self.traits:
            choice["logprobs"] = {
                "content": [
                    {
                        "token": token,
                        "top_logprobs": [{"token": t, "logprob": v} for t, v in top.items()],
                    }
                    for token, top in self.traits["steps"]
                ]
            }
        return {
            "model": "smollm2-2026-01-01",
            "choices": [choice],
            "usage": {"prompt_tokens": 11, "completion_tokens": 5},
        }


@contextmanager
def playing(kind, target: str = "", **traits):
    """Yield (the stand-in, its base URL)."""
    part = kind(target, **traits)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            say(self, 200, part.get(self.path)) if self.path == "/v1/models" else say(self, 404, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            part.asked.append((self.path, body))
            try:
                say(self, 200, part.post(self.path, body))
            except Refused as error:
                status, message = error.args
                say(self, status, {"error": {"message": message}})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield part, f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
