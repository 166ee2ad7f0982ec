"""A language model of this machine as a frozen part of another: gradients pass through it.

For systems that learn what stands in front of a language model (`encode/slots.py`). The engine's
own weights are packed for reading alone; these are not.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.transformers_llm import load_model
from recbole_exp3rt.llm.names import ORACLE, is_served, local_options

PLANNED = 4096  # tokens at once, for the memory plan


class FrozenLM:
    """A causal chat model whose weights never change; they are loaded when they are needed.

    `identity` and `chat` are those of the same model when it answers questions.
    """

    def __init__(self, name: str, **options: Any) -> None:
        """`options` are those of `load_model`. Raises: LLMError if there is no such model here."""
        if name == ORACLE or is_served(name):
            raise LLMError(
                f"student={name} is no model with weights on this machine, which is needed where "
                "vectors stand in a prompt; take student=smollm2, a hub id or a folder"
            )
        given = local_options(name, batch_tokens=PLANNED, **options)
        self._loaded = load_model(packed=False, **given)
        self.identity: str = self._loaded.identity
        self.chat = Chat(self._loaded.tokenizer, self._loaded.generation_config, self.identity)

    @cached_property
    def model(self) -> Any:
        """The model with its weights. Raises: LLMError if they cannot be loaded."""
        model = self._loaded.weights()
        model.requires_grad_(False)
        return model

    @property
    def width(self) -> int:
        """Size of a token's embedding."""
        return int(self._loaded.config.get_text_config().hidden_size)
