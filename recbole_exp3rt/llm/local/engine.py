"""Continuous batching: requests through a model, every shared prefix read once.

Batches of prompts are prefilled and join the running sequences as long as there is room. Every
decode step makes one token for each sequence. Finished sequences leave the batch, and their labels
are scored from the same key/value cache. Does not know where the model comes from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from recbole_exp3rt.llm.base import Answer, Failure
from recbole_exp3rt.llm.label_tokens import kept_tokens, label_tokens
from recbole_exp3rt.llm.local.batching import Batch, Task, plan
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.decode import Rows, label_logp, prefill
from recbole_exp3rt.llm.local.generation import Generation
from recbole_exp3rt.llm.local.kv_cache import Segment
from recbole_exp3rt.llm.local.memory import out_of_memory, return_freed_memory
from recbole_exp3rt.llm.local.threads import Threads

# Prompt tokens in one forward pass: more do not fit into a CPU's caches, a GPU needs many.
PREFILL_TOKENS = {"cpu": 4096, "cuda": 65_536}
# Finished sequences are removed when they are a quarter of the batch: this copies the others.
REMOVE_AT = 4


class Engine:
    """Answers tasks with one model.

    `tokens` is the most that the key/value cache holds, `max_rows` the most sequences in a batch.
    `threads` leave cores to other processes while tasks are answered; None: torch's own number.
    `prompt_tokens` counts the tokens that the model has read; a shared prefix counts once.
    """

    def __init__(
        self,
        model: Any,
        chat: Chat,
        identity: str,
        *,
        tokens: int,
        max_rows: int,
        threads: Threads | None = None,
    ) -> None:
        self.model = model
        self.chat = chat
        self.identity = identity
        self.tokens = tokens
        self.max_rows = max_rows
        self.threads = threads
        self.prompt_tokens = 0
        self._prefix: tuple[tuple[int, ...], Segment] | None = None  # the last one read

    def answers(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """(position, answer) as sequences finish.

        If memory runs out, the batch is halved and tried again. A request that does not fit alone
        gets a Failure.
        """
        left = {task.position: task for task in tasks}
        tokens = self.tokens
        while left:
            scheduler = _Scheduler(self, tokens, left.values())
            try:
                with self._sharing():
                    for position, answer in scheduler.run():
                        del left[position]
                        yield position, answer
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                tokens, in_progress = scheduler.cost // 2, scheduler.in_progress
            else:
                continue
            # outside the except clause, so that the traceback no longer holds the cache
            del scheduler
            self.forget()
            if len(in_progress) == 1:
                (task,) = in_progress
                del left[task.position]
                yield task.position, Failure("out of memory for this request alone")

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Before each pass of the model, the threads may look at what other processes take."""
        if self.threads is None:
            yield
            return
        with self.threads.shared() as look:
            hook = self.model.register_forward_pre_hook(lambda *_: look())
            try:
                yield
            finally:
                hook.remove()

    def forget(self) -> None:
        """Free the prefix that is kept for the next batch."""
        self._prefix = None
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def prefix(self, batch: Batch) -> Segment:
        """Keys and values of the prefix that the sequences of a batch share."""
        prefix, rows = batch.prefix, len(batch.tasks)
        if not prefix:
            return Segment(rows)
        if self._prefix is None or self._prefix[0] != prefix:
            self._prefix = (prefix, prefill(self.model, prefix, rows))
            self.prompt_tokens += len(prefix)
        return self._prefix[1].of(rows)

    def join(self, running: Rows | None, batches: Sequence[Batch]) -> tuple[Rows, torch.Tensor]:
        """Prefill batches and append them to the running rows.

        Returns all rows, and the logits [new rows, vocabulary] after the new prompts.
        """
        rest = [[task.prompt[batch.shared :] for task in batch.tasks] for batch in batches]
        self.prompt_tokens += sum(len(prompt) for prompts in rest for prompt in prompts)
        prefixes = [self.prefix(batch) for batch in batches]
        return Rows.joined(self.model, running, list(zip(prefixes, rest, strict=True)))

    def score(self, rows: Rows, generations: Sequence[Generation]) -> list[tuple[float, ...]]:
        """Log-probabilities of the labels of finished sequences: [rows][labels], in nats."""
        contexts: list[list[int]] = []
        labels: list[Sequence[Sequence[int]]] = []
        dropped: list[int] = []
        for generation in generations:
            readout = generation.task.request.readout
            assert readout is not None
            text = generation.text.rstrip()
            kept, tail = kept_tokens(generation.decode, generation.tokens, text)
            found = label_tokens(self.chat.encode, tail, readout, self.chat.end_of_turn)
            read = min(kept, generation.read)  # the last token may not have been read yet
            dropped.append(generation.read - read)
            contexts.append([*generation.tokens[read:kept], *found.context])
            labels.append(found.labels)
        rows.forget(dropped)
        return [tuple(row) for row in label_logp(rows, contexts, labels)]


class _Scheduler:
    """Waiting batches and running sequences, until all are answered or memory runs out.

    `running` [rows] are the sequences of `rows`, `logits` [rows, vocabulary] those of their next
    tokens; `joining` are batches that are being prefilled.
    """

    def __init__(self, engine: Engine, tokens: int, tasks: Iterable[Task]) -> None:
        self.engine = engine
        self.tokens = tokens
        read = PREFILL_TOKENS.get(engine.model.device.type)
        self.waiting = deque(plan(list(tasks), max_rows=engine.max_rows, tokens=tokens, read=read))
        self.rows: Rows | None = None
        self.running: list[Generation] = []
        self.joining: list[Batch] = []
        self.logits = torch.empty(0)

    @property
    def in_progress(self) -> list[Task]:
        """The tasks whose sequences are in the model."""
        joining = [task for batch in self.joining for task in batch.tasks]
        return [generation.task for generation in self.running] + joining

    @property
    def cost(self) -> int:
        """Tokens of cache that the sequences in progress may take."""
        return self._cost(self.joining)

    def run(self) -> Iterator[tuple[int, Answer]]:
        """Admit, decode and finish sequences until none is left."""
        while self.waiting or self.running:
            self._admit()
            for generation, token in zip(self.running, self._next_tokens(), strict=True):
                generation.add(token)
            yield from self._finish()
            if self.rows is not None:
                self.logits = self.rows.feed([each.next_token() for each in self.running])
        return_freed_memory()

    def _has_room(self, batch: Batch) -> bool:
        if not self.running and not self.joining:
            return True
        batches = [*self.joining, batch]
        rows = len(self.running) + sum(len(each.tasks) for each in batches)
        return rows <= self.engine.max_rows and self._cost(batches) <= self.tokens

    def _cost(self, batches: Sequence[Batch]) -> int:
        """Tokens of cache of the running sequences with `batches`, up to their ends."""
        rows, columns, prefixes = len(self.running), 0, 0
        if self.rows is not None:
            left = max(each.task.request.max_new_tokens - len(each.tokens) for each in self.running)
            columns = self.rows.columns + left
            prefixes = sum(segment.length for segment in self.rows.cache.segments)
        for batch in batches:
            rows += len(batch.tasks)
            columns = max(columns, batch.own)
            prefixes += batch.shared
        return rows * columns + prefixes

    def _admit(self) -> None:
        """Prefill as many waiting batches as there is room for, in one go: it copies all rows."""
        while self.waiting and self._has_room(self.waiting[0]):
            self.joining.append(self.waiting.popleft())
        if self.joining:
            self.rows, new = self.engine.join(self.rows, self.joining)
            self.logits = torch.cat([self.logits, new]) if self.running else new
            tasks = [task for batch in self.joining for task in batch.tasks]
            self.running += [Generation(task, self.engine.chat) for task in tasks]
            self.joining = []

    def _next_tokens(self) -> list[int]:
        """The next token of each row: the most probable one, or a sampled one."""
        tokens: list[int] = self.logits.argmax(dim=-1).tolist()
        for row, generation in enumerate(self.running):
            if generation.task.request.temperature > 0 and not generation.finish:
                tokens[row] = generation.draw(self.logits[row], self.engine.identity)
        return tokens

    def _finish(self) -> Iterator[tuple[int, Answer]]:
        """Remove finished sequences and yield their answers, once they are enough or all."""
        assert self.rows is not None
        ended = [row for row, generation in enumerate(self.running) if generation.finish]
        stay = [row for row, generation in enumerate(self.running) if not generation.finish]
        if not ended or (stay and REMOVE_AT * len(ended) < len(self.running)):
            return
        finished = [self.running[row] for row in ended]
        scores: dict[int, tuple[float, ...]] = {}
        scored = [k for k, generation in enumerate(finished) if generation.task.request.readout]
        if scored:
            all_rows = len(scored) == len(self.running)
            rows = self.rows if all_rows else self.rows.take([ended[k] for k in scored])
            logp = self.engine.score(rows, [finished[k] for k in scored])
            scores = dict(zip(scored, logp, strict=True))
            del rows
        self.rows = self.rows.take(stay) if stay else None
        return_freed_memory()
        self.running = [self.running[row] for row in stay]
        for k, generation in enumerate(finished):
            yield generation.task.position, generation.completion(scores.get(k))
