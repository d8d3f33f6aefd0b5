"""Continue many texts at once: they join and leave the batch between two tokens.

Sources: batching at the level of a token is from Orca (Yu et al., OSDI 2022). Every text has a row
of the cache for its keys and values, so texts of different lengths share a forward pass. A text
does not depend on the others: it has its own settings and its own random numbers.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ostinato.inference.decoder import Decoder, Way
from ostinato.inference.generate import (
    Continuation,
    Piece,
    Tokenizer,
    check_prompt,
)
from ostinato.inference.sampling import Sampler, Sampling, log_softmax
from ostinato.models.nanochat import NanoChat, NanoChatConfig


class Full(Exception):
    """No place is left in the queue, or the engine has been closed."""


@dataclass(eq=False)
class Writing:
    """Hold a text that is to be continued, and how far it has come."""

    tokens: tuple[int, ...]
    """The prompt."""
    tell: Callable[[Piece | Exception], None]
    """Receive every piece, the last one with its reason to stop, or a fault; called in the engine's
    thread."""
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    likeliest: int = 0
    """Number of likeliest tokens to report for each token."""
    given_up: bool = False
    """Set it to give the place to another text."""


class Seated:
    """Hold what a text in the batch needs for its next token."""

    def __init__(self, writing: Writing, tokenizer: Tokenizer, slot: int):
        self.writing, self.slot = writing, slot
        self.text = Continuation(tokenizer, writing.tokens[-1], writing.max_tokens, writing.stop)
        self.sampler = Sampler(writing.sampling, writing.tokens)
        self.last = writing.tokens[-1]

    def next(self, logits: Float[ndarray, " vocab"], logprobs: Float[ndarray, " vocab"]) -> bool:
        """Choose a token and tell its piece; returns whether the text goes on."""
        self.last, likeliest = self.sampler.draw(logits), ()
        if self.writing.likeliest:
            tokens = np.argsort(-logprobs, kind="stable")[: self.writing.likeliest]
            likeliest = tuple(zip(tokens.tolist(), logprobs[tokens].tolist(), strict=True))
        piece = self.text.add(self.last, float(logprobs[self.last]), likeliest)
        self.writing.tell(piece)
        return not piece.finish


class Batch:
    """Run a model on up to `most` texts at a time."""

    def __init__(
        self,
        model: NanoChat,
        tokenizer: Tokenizer,
        most: int = 8,
        product: Way | Literal["auto"] = "auto",
    ):
        if most < 1:
            raise ValueError(f"texts at a time must be at least 1, not {most}")
        self.model, self.tokenizer, self.most = model.packed(), tokenizer, most
        self.seats: list[Seated] = []
        self.decoder = Decoder(self.model, slots=most, product=product)

    @property
    def has_room(self) -> bool:
        return len(self.seats) < self.most

    def join(self, writing: Writing) -> None:
        """Read a prompt and write its first token."""
        slot = min(set(range(self.most)) - {seat.slot for seat in self.seats})
        self.decoder.clear(slot)
        logits = self.decoder.read(writing.tokens, slot)
        self.seats += self.going_on([Seated(writing, self.tokenizer, slot)], logits[None])

    def step(self) -> None:
        """Write a token of every text."""
        self.seats = [seat for seat in self.seats if not seat.writing.given_up]
        if not self.seats:
            return
        last, slots = zip(*((seat.last, seat.slot) for seat in self.seats), strict=True)
        self.seats = self.going_on(self.seats, self.decoder.step(last, slots))

    def going_on(self, seats: list[Seated], logits: Float[Tensor, "texts vocab"]) -> list[Seated]:
        """Write a token of each text; return those that are not at their end."""
        numbers = logits.float().numpy(force=True)
        rows = zip(seats, numbers, log_softmax(numbers), strict=True)
        return [seat for seat, *row in rows if seat.next(*row)]


class Engine:
    """Run a batch in a thread of its own, with a queue in front of it."""

    def __init__(self, batch: Batch, waiting: int = 64):
        """Texts beyond `waiting` that wait for a row are refused."""
        self.batch, self.waiting = batch, waiting
        self.queue: deque[Writing] = deque()
        self.joining: deque[Writing] = deque()
        """Texts that have left the queue and are not in the batch yet."""
        self.changed = threading.Condition()
        self.closed = True

    def start(self) -> None:
        """Begin to take texts."""
        self.closed = False
        self.thread = threading.Thread(target=self.run, name="write", daemon=True)
        self.thread.start()

    @property
    def config(self) -> NanoChatConfig:
        return self.batch.model.config

    def check(self, tokens: tuple[int, ...]) -> None:
        """Raise ValueError for a prompt that the model cannot continue."""
        check_prompt(self.batch.model, tokens)

    def submit(self, writings: list[Writing]) -> None:
        """Queue texts, all or none. Raises Full."""
        with self.changed:
            if self.closed:
                raise Full("the model is not running: look at the server's log")
            self.queue = deque(each for each in self.queue if not each.given_up)
            if len(self.queue) + len(writings) > self.waiting + self.free:
                raise Full("too many requests: try again later")
            self.queue.extend(writings)
            self.changed.notify()

    @property
    def free(self) -> int:
        return self.batch.most - len(self.batch.seats)

    @property
    def unfinished(self) -> int:
        """Count the texts in the batch and in the queue."""
        return len(self.batch.seats) + len(self.joining) + len(self.queue)

    def close(self) -> None:
        """Stop after the token that is being written."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join()

    def run(self) -> None:
        try:
            while self.turn():
                pass
        except Exception as error:  # whoever waits must not wait for ever
            with self.changed:
                self.closed = True
            seated = (seat.writing for seat in self.batch.seats)
            for writing in [*seated, *self.joining, *self.queue]:
                writing.tell(error)
            raise

    def turn(self) -> bool:
        """Seat texts that wait and write a token of each, or wait; returns whether to go on."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.queue or self.batch.seats)
            if self.closed:
                return False
            for _ in range(min(self.free, len(self.queue))):
                self.joining.append(self.queue.popleft())
        while self.joining:
            if not self.joining[0].given_up:
                self.batch.join(self.joining[0])
            self.joining.popleft()
        self.batch.step()
        return True
