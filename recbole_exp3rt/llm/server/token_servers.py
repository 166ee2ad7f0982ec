"""Kinds of servers that speak in tokens: llama.cpp, vLLM, SGLang.

What each can do was read from its documentation and source: llama.cpp's server README; vLLM's
OpenAI-compatible server, sampling parameters and /tokenize; SGLang's native API. llama.cpp is
tested for real, the two others by stand-ins that take and give the documented bodies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.server.endpoint import Empty, Server, Unsupported, tokens_in
from recbole_exp3rt.llm.server.token_route import Tokens, TokenServer

N_PROBS = 256  # likeliest tokens that llama.cpp tells at once; a label below them is forced

ASKED = [{"role": "user", "content": "?"}]
ENDS = ("<think>\n", "<think>", "[THINK]", "<|start|>assistant")  # of prompts that open a thought


class LlamaCpp:
    """llama.cpp's server: /apply-template, /tokenize, /completion.

    With `post_sampling_probs` off, /completion tells log-probabilities over the whole vocabulary
    before any bias; a label below the likeliest tokens is chosen by `logit_bias` and then told.
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    async def text_tokens(self, text: str) -> Tokens:
        """Tokens of a text, without special tokens."""
        body = {"content": text, "add_special": False, "parse_special": False}
        return await self.server.ask("/tokenize", body, _tokens)

    async def chat_tokens(self, messages: list[dict[str, str]], prefill: str) -> Tokens:
        """Tokens of the rendered messages, the header of the assistant and the prefill."""
        body = {
            "content": await self._rendered(messages) + prefill,
            "add_special": True,
            "parse_special": True,
        }
        return await self.server.ask("/tokenize", body, _tokens)

    async def _rendered(self, messages: list[dict[str, str]]) -> str:
        body = {"messages": messages, **self.server.template}
        return await self.server.ask("/apply-template", body, _prompt)

    async def prompt_end(self) -> str:
        """The end of a rendered prompt, as far as it opens a thought."""
        return await self._rendered(ASKED)

    async def turn_end(self, messages: list[dict[str, str]]) -> Tokens:
        """Tokens of a chat with an assistant's message and what the template writes after it."""
        # an assistant's last message would be left open, so another one follows
        return await self.chat_tokens([*messages, {"role": "user", "content": "?"}], "")

    async def complete(self, prompt: Tokens, request: Request) -> Completion:
        """Generate an answer; `label_logp` stays None. Raises: NoAnswer."""
        body = {
            "prompt": prompt,
            "n_predict": request.max_new_tokens,
            "stop": request.stop,
            "temperature": request.temperature,
            "seed": request.seed,
            "cache_prompt": True,
            **({"top_k": 0, "top_p": 1.0, "min_p": 0.0} if request.temperature else {}),
        }

        def read(response: Any) -> Completion:
            text = _text(response["content"])
            finish = "length" if response["stop_type"] == "limit" else "stop"
            return Completion(
                text,
                finish,  # type: ignore[arg-type]
                tokens_in(response.get("tokens_evaluated"), len(prompt)),
                tokens_in(response.get("tokens_predicted")),
            )

        return await self.server.ask("/completion", body, read)

    async def next_logp(self, context: Tokens, wanted: Sequence[int]) -> dict[int, float]:
        """Log-probability of each wanted token after the context, in nats. Raises: NoAnswer."""
        ask = {"prompt": context, "n_predict": 1, "temperature": 0.0, "cache_prompt": True}

        def read(response: Any) -> dict[int, float]:
            step = response["completion_probabilities"][0]
            reported = {int(one["id"]): float(one["logprob"]) for one in step["top_logprobs"]}
            return reported | {int(step["id"]): float(step["logprob"])}

        likely = await self.server.ask("/completion", ask | {"n_probs": N_PROBS}, read)
        for token in wanted:
            if token not in likely:
                force = {"logit_bias": [[token, 1e5]], "n_probs": 1}
                reported = await self.server.ask("/completion", ask | force, read)
                likely |= {token: reported[token]} if token in reported else {}
        return chosen(likely, wanted)


class VLLM:
    """vLLM: /tokenize renders and tokenizes, /v1/completions takes tokens.

    `logprob_token_ids` tells any tokens' log-probabilities at once. Where it is
    unknown, `allowed_token_ids` chooses one label a question; what is told is taken before that
    mask with the server's default `--logprobs-mode raw_logprobs`.
    """

    def __init__(self, server: Server, model: str) -> None:
        self.server = server
        self.model = model
        self._by_ids = True

    async def text_tokens(self, text: str) -> Tokens:
        """Tokens of a text, without special tokens."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return await self.server.ask("/tokenize", body, _tokens)

    async def chat_tokens(self, messages: list[dict[str, str]], prefill: str) -> Tokens:
        """Tokens of the rendered messages, the header of the assistant and the prefill."""
        prompt = await self._chat(messages, asks=True)
        return (*prompt, *(await self.text_tokens(prefill) if prefill else ()))

    async def prompt_end(self) -> str:
        """The end of a rendered prompt, as far as it opens a thought."""
        return await _known_end(self)

    async def turn_end(self, messages: list[dict[str, str]]) -> Tokens:
        """Tokens of a chat with an assistant's message and what the template writes after it."""
        return await self._chat(messages, asks=False)

    async def _chat(self, messages: list[dict[str, str]], *, asks: bool) -> Tokens:
        body = {"model": self.model, "messages": messages, "add_generation_prompt": asks}
        body |= self.server.template
        return await self.server.ask("/tokenize", body, _tokens)

    async def complete(self, prompt: Tokens, request: Request) -> Completion:
        """Generate an answer; `label_logp` stays None. Raises: NoAnswer."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": request.max_new_tokens,
            "stop": list(request.stop),
            "temperature": request.temperature,
            "seed": request.seed,
            # a model's own generation_config may set others
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }

        def read(response: Any) -> Completion:
            choice = response["choices"][0]
            finish = "length" if choice["finish_reason"] == "length" else "stop"
            usage = response.get("usage")
            reported = usage if isinstance(usage, dict) else {}
            return Completion(
                _text(choice["text"]),
                finish,  # type: ignore[arg-type]
                tokens_in(reported.get("prompt_tokens"), len(prompt)),
                tokens_in(reported.get("completion_tokens")),
            )

        return await self.server.ask("completions", body, read)

    async def next_logp(self, context: Tokens, wanted: Sequence[int]) -> dict[int, float]:
        """Log-probability of each wanted token after the context, in nats. Raises: NoAnswer."""
        ask = {
            "model": self.model,
            "prompt": context,
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 1,
            "return_tokens_as_token_ids": True,
        }

        def read(response: Any) -> dict[int, float]:
            reported = response["choices"][0]["logprobs"]["top_logprobs"][0]
            return {int(name.removeprefix("token_id:")): float(v) for name, v in reported.items()}

        reported: dict[int, float] = {}
        if self._by_ids:
            try:
                body = ask | {"logprob_token_ids": list(wanted)}
                reported = await self.server.ask("completions", body, read)
            except Unsupported:
                self._by_ids = False
        self._by_ids = self._by_ids and all(token in reported for token in wanted)
        for token in wanted:
            if token not in reported:
                one = await self.server.ask(
                    "completions", ask | {"allowed_token_ids": [token]}, read
                )
                reported |= {token: one[token]} if token in one else {}
        return chosen(reported, wanted)


class SGLang:
    """SGLang: /tokenize for texts, chat's `return_prompt_token_ids` (since 0.5.13) for the
    template, and the native /generate, whose `token_ids_logprob` tells any tokens' logs."""

    def __init__(self, server: Server, model: str) -> None:
        self.server = server
        self.model = model

    async def text_tokens(self, text: str) -> Tokens:
        """Tokens of a text, without special tokens."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return await self.server.ask("/tokenize", body, _tokens)

    async def chat_tokens(self, messages: list[dict[str, str]], prefill: str) -> Tokens:
        """Tokens of the rendered messages, the header of the assistant and the prefill."""
        prompt = await self._chat(messages)
        return (*prompt, *(await self.text_tokens(prefill) if prefill else ()))

    async def prompt_end(self) -> str:
        """The end of a rendered prompt, as far as it opens a thought."""
        return await _known_end(self)

    async def turn_end(self, messages: list[dict[str, str]]) -> Tokens:
        """Tokens of a chat with an assistant's message and what the template writes after it."""
        return await self._chat([*messages, {"role": "user", "content": "?"}])

    async def _chat(self, messages: list[dict[str, str]]) -> Tokens:
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": 1,
            "return_prompt_token_ids": True,
            **self.server.template,
        }

        def read(response: Any) -> Tokens:
            choice = response["choices"][0]
            ids = choice.get("prompt_token_ids") or response.get("prompt_token_ids")
            if not ids:
                raise Unsupported("the server does not tell a prompt's tokens")
            return tuple(int(token) for token in ids)

        return await self.server.ask("chat/completions", body, read)

    async def complete(self, prompt: Tokens, request: Request) -> Completion:
        """Generate an answer; `label_logp` stays None. Raises: NoAnswer."""
        sampling = {
            "max_new_tokens": request.max_new_tokens,
            "stop": list(request.stop),
            "temperature": request.temperature,
            "sampling_seed": request.seed,
            "top_p": 1.0,
            "top_k": -1,
        }

        def read(response: Any) -> Completion:
            meta = response["meta_info"]
            finish = "length" if meta["finish_reason"]["type"] == "length" else "stop"
            return Completion(
                _text(response["text"]),
                finish,  # type: ignore[arg-type]
                tokens_in(meta.get("prompt_tokens"), len(prompt)),
                tokens_in(meta.get("completion_tokens")),
            )

        body = {"input_ids": prompt, "sampling_params": sampling}
        return await self.server.ask("/generate", body, read)

    async def next_logp(self, context: Tokens, wanted: Sequence[int]) -> dict[int, float]:
        """Log-probability of each wanted token after the context, in nats. Raises: NoAnswer."""
        body = {
            "input_ids": context,
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
            "return_logprob": True,
            "token_ids_logprob": list(wanted),
        }

        def read(response: Any) -> dict[int, float]:
            reported = response["meta_info"]["output_token_ids_logprobs"][0]
            return {int(entry[1]): float(entry[0]) for entry in reported}

        return chosen(await self.server.ask("/generate", body, read), wanted)


async def _known_end(speaks: TokenServer) -> str:
    """The one of ENDS that a prompt ends in, by its tokens; nothing if it ends in none."""
    prompt = await speaks.chat_tokens(ASKED, "")
    for end in ENDS:
        tokens = await speaks.text_tokens(end)
        if tokens and prompt[-len(tokens) :] == tokens:
            return end
    return ""


def chosen(reported: Mapping[int, float], wanted: Sequence[int]) -> dict[int, float]:
    """The wanted tokens' log-probabilities.

    Raises: Unsupported if one is missing, or they cannot be probabilities of one distribution.
    """
    missing = [token for token in wanted if token not in reported]
    if missing or sum(math.exp(reported[token]) for token in wanted) > 1.001:
        raise Unsupported("the server does not tell the log-probability of every label")
    return {token: reported[token] for token in wanted}


def _tokens(response: Any) -> Tokens:
    return tuple(int(token) for token in response["tokens"])


def _prompt(response: Any) -> str:
    return _text(response["prompt"])


def _text(value: Any) -> str:
    """Raises: Empty if nothing is said."""
    if not str(value or "").strip():
        raise Empty
    return str(value)


def token_server(kind: str, server: Server, model: str) -> TokenServer | None:
    """The server by what `owned_by` says in its list of models; None: it speaks in chats only."""
    if kind == "llamacpp":
        return LlamaCpp(server)
    if kind == "vllm":
        return VLLM(server, model)
    return SGLang(server, model) if kind == "sglang" else None
