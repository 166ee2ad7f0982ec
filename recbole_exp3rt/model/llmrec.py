"""LLMRec: a language model is asked for a rating, without training.

Source: Liu et al., "Is ChatGPT a Good Recommender?", arXiv 2304.10149; the paper's Tables 3 and 7.
`docs/models/llmrec.md` says what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from recbole_exp3rt.config.systems import LLMRecSettings
from recbole_exp3rt.model.prompted import Content, PromptedRater
from recbole_exp3rt.records import Description
from recbole_exp3rt.stages.untrusted import harmless


class LLMRec(PromptedRater):
    """Shows the item and, few-shot, the user's earlier ratings; no review is read.

    A user without train ratings is asked about zero-shot.
    """

    reads_reviews = False
    prompts: ClassVar[Mapping[str, frozenset[str]]] = {
        "llmrec_zero_shot": frozenset({"item", "averages"}),
        "llmrec_few_shot": frozenset({"item", "averages", "history"}),
    }

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        """As every prompted model. Raises: UsageError."""
        super().__init__(config, *args, **kwargs)
        own = LLMRecSettings.from_config(config)
        self.shots, self.lines = own.shots, own.description_lines

    def content(self, user: str, item: str) -> Content:
        """The item's first description lines and, oldest first, the user's other train ratings."""
        rated = self.corpus.user_reviews(user, without=item)
        if self.shots is not None:
            rated = rated[-self.shots :] if self.shots else []
        scale = self.settings.scale
        history = [
            f"- {harmless(self.corpus.description(r.item).title)}: {scale.label_of(r.rating)}"
            for r in rated
        ]
        fields = {"item": self._shown(item), "averages": self.averages(user, item)}
        if not history:
            return Content("llmrec_zero_shot", fields)
        return Content("llmrec_few_shot", fields, {"history": history})

    def _shown(self, item: str) -> str:
        """The first lines of an item's description: its title and, where there is one, its kind."""
        description = self.corpus.description(item)
        lines = description.lines[: self.lines] or Description(item, (("Title", item),)).lines
        return "\n".join(f"{label}: {harmless(value)}" for label, value in lines)
