"""Requests through a model: every distinct start read once, wide batches, rows that come and go.

Batches of prompts are read and join the rows that are being answered as long as there is room;
every step makes one token for each row; finished rows leave, their labels are scored from the
same cache. What it does not know: where the model comes from, or its tokenizer's special cases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recbole_exp3rt.llm.base import Answer, Failure
from recbole_exp3rt.llm.label_tokens import kept_tokens, label_tokens
from recbole_exp3rt.llm.local.batching import Batch, Task, plan
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.decode import Rows, label_logp, prefill
from recbole_exp3rt.llm.local.generation import Turn
from recbole_exp3rt.llm.local.kv_cache import Segment
from recbole_exp3rt.llm.local.memory import give_back, out_of_memory

# Prompt tokens at once: on a CPU more no longer fit into its caches, a GPU wants them all.
READ = {"cpu": 4096, "cuda": 65_536}
LEAVE = 4  # finished rows leave when they are a quarter: leaving copies the others


class Engine:
    """Answers tasks with one model. `tokens` bounds the key/value cache, `max_rows` the rows."""

    def __init__(
        self, model: Any, chat: Chat, identity: str, *, tokens: int, max_rows: int
    ) -> None:
        self.model = model
        self.chat = chat
        self.identity = identity
        self.tokens = tokens
        self.max_rows = max_rows
        self.prompt_tokens = 0  # that went through the model: a shared start counts once
        self._start: tuple[tuple[int, ...], Segment] | None = None  # the last one read

    def answers(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """(position, answer) as rows finish. Memory running out halves what goes on at once."""
        left = {task.position: task for task in tasks}
        tokens = self.tokens
        while left:
            flight = _Flight(self, tokens, left.values())
            try:
                for position, answer in flight.run():
                    del left[position]
                    yield position, answer
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                tokens, alone = flight.cost // 2, flight.aboard
            else:
                continue
            # outside the except clause, so that the traceback no longer holds the cache
            del flight
            self.forget()
            if len(alone) == 1:
                (task,) = alone
                del left[task.position]
                yield task.position, Failure("out of memory for this request alone")

    def forget(self) -> None:
        """Let go of what was kept for the next batch."""
        self._start = None
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def start(self, batch: Batch) -> Segment:
        """What the rows of a batch share, read."""
        start, rows = batch.start, len(batch.tasks)
        if not start:
            return Segment(rows)
        if self._start is None or self._start[0] != start:
            self._start = (start, prefill(self.model, start, rows))
            self.prompt_tokens += len(start)
        return self._start[1].of(rows)

    def board(self, aboard: Rows | None, batches: Sequence[Batch]) -> tuple[Rows, torch.Tensor]:
        """The rows aboard and those of batches, their prompts read; and the logits of the new."""
        rest = [[task.prompt[batch.shared :] for task in batch.tasks] for batch in batches]
        self.prompt_tokens += sum(len(prompt) for prompts in rest for prompt in prompts)
        starts = [self.start(batch) for batch in batches]
        return Rows.boarded(self.model, aboard, list(zip(starts, rest, strict=True)))

    def score(self, rows: Rows, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Label log-probabilities of rows that have stopped and have a readout."""
        contexts: list[list[int]] = []
        labels: list[Sequence[Sequence[int]]] = []
        back: list[int] = []
        for turn in turns:
            readout = turn.task.request.readout
            assert readout is not None
            kept, tail = kept_tokens(turn.decode, turn.tokens, turn.text.rstrip())
            found = label_tokens(self.chat.encode, tail, readout, self.chat.end_of_turn)
            read = min(kept, turn.read)  # the last token may not have been read yet
            back.append(turn.read - read)
            contexts.append([*turn.tokens[read:kept], *found.context])
            labels.append(found.labels)
        rows.forget(back)
        return [tuple(row) for row in label_logp(rows, contexts, labels)]


class _Flight:
    """Rows on their way through the model, until all is answered or memory runs out."""

    def __init__(self, engine: Engine, tokens: int, tasks: Any) -> None:
        self.engine = engine
        self.tokens = tokens
        read = READ.get(engine.model.device.type)
        self.waiting = deque(plan(list(tasks), max_rows=engine.max_rows, tokens=tokens, read=read))
        self.rows: Rows | None = None
        self.turns: list[Turn] = []
        self.boarding: list[Batch] = []
        self.logits = torch.empty(0)

    @property
    def aboard(self) -> list[Task]:
        """The tasks that were in the model."""
        boarding = [task for batch in self.boarding for task in batch.tasks]
        return [turn.task for turn in self.turns] + boarding

    @property
    def cost(self) -> int:
        """Tokens of cache that what is aboard may take."""
        return self._cost(self.boarding)

    def run(self) -> Iterator[tuple[int, Answer]]:
        while self.waiting or self.turns:
            self._board()
            for turn, token in zip(self.turns, self._choose(), strict=True):
                turn.add(token)
            yield from self._leave()
            if self.rows is not None:
                self.logits = self.rows.feed([turn.next_token() for turn in self.turns])
        give_back()

    def _room(self, batch: Batch) -> bool:
        if not self.turns and not self.boarding:
            return True
        batches = [*self.boarding, batch]
        rows = len(self.turns) + sum(len(each.tasks) for each in batches)
        return rows <= self.engine.max_rows and self._cost(batches) <= self.tokens

    def _cost(self, batches: Sequence[Batch]) -> int:
        rows, columns, starts = len(self.turns), 0, 0
        if self.rows is not None:
            left = max(t.task.request.max_new_tokens - len(t.tokens) for t in self.turns)
            columns = self.rows.columns + left
            starts = sum(segment.length for segment in self.rows.cache.segments)
        for batch in batches:
            rows += len(batch.tasks)
            columns = max(columns, batch.own)
            starts += batch.shared
        return rows * columns + starts

    def _board(self) -> None:
        """Read as many batches as there is room for; making room copies all rows."""
        while self.waiting and self._room(self.waiting[0]):
            self.boarding.append(self.waiting.popleft())
        if self.boarding:
            self.rows, new = self.engine.board(self.rows, self.boarding)
            self.logits = torch.cat([self.logits, new]) if self.turns else new
            tasks = [task for batch in self.boarding for task in batch.tasks]
            self.turns += [Turn(task, self.engine.chat) for task in tasks]
            self.boarding = []

    def _choose(self) -> list[int]:
        """The next token of each row: the likeliest, or drawn with the request's own seed."""
        tokens: list[int] = self.logits.argmax(dim=-1).tolist()
        for row, turn in enumerate(self.turns):
            if turn.task.request.temperature > 0 and not turn.finish:
                tokens[row] = turn.draw(self.logits[row], self.engine.identity)
        return tokens

    def _leave(self) -> Iterator[tuple[int, Answer]]:
        """Answers of the finished rows, once they are enough or all."""
        assert self.rows is not None
        ended = [row for row, turn in enumerate(self.turns) if turn.finish]
        stay = [row for row, turn in enumerate(self.turns) if not turn.finish]
        if not ended or (stay and LEAVE * len(ended) < len(self.turns)):
            return
        turns = [self.turns[row] for row in ended]
        scores: dict[int, tuple[float, ...]] = {}
        asked = [k for k, turn in enumerate(turns) if turn.task.request.readout]
        if asked:
            everybody = len(asked) == len(self.turns)
            scored = self.rows if everybody else self.rows.take([ended[k] for k in asked])
            logp = self.engine.score(scored, [turns[k] for k in asked])
            scores = dict(zip(asked, logp, strict=True))
        self.rows = self.rows.take(stay) if stay else None
        give_back()
        self.turns = [self.turns[row] for row in stay]
        for k, turn in enumerate(turns):
            yield turn.task.position, turn.completion(scores.get(k))
