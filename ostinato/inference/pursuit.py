"""A question on its way through the stages of a search, one attempt after the other or together."""

import heapq
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from ostinato.data.symmetries import Symmetries
from ostinato.data.task import Task
from ostinato.inference.search import Attempt, Search, Way, best
from ostinato.models import RecursiveModel

GUESSES_AT_ONCE = 8
"""Boards with guesses of a puzzle that are thought about at the same time: a fixed number, so that
which come next does not depend on the batch."""

STARTS = 10**6
"""Random starts are numbered from here, apart from the rollouts with noise."""


class Question(NamedTuple):
    """A puzzle to think about."""

    tokens: Int[Tensor, " seq"]
    puzzle_id: int = 0


@dataclass(frozen=True, eq=False)
class Thought:
    """What came of thinking about a puzzle."""

    tokens: Integer[np.ndarray, " seq"]
    """The puzzle."""
    attempt: Attempt
    """The selected one."""
    attempts: int
    """Ways of thinking about it that were begun."""
    total_steps: float
    """Supervision steps of all of them together, with parts of steps: what the answer has cost."""


class Pursuit:
    """A question on its way through the stages of a search."""

    def __init__(
        self, number: int, question: Question, search: Search, usual: int, task: Task | None
    ):
        self.number, self.question, self.search, self.task = number, question, search, task
        self.stages = search.stages(usual)
        self.attempts: list[Attempt] = []
        self.running = 0
        """Attempts that have begun or wait for a seat."""
        self.limit: Fraction | float = math.inf
        """Steps after which attempts of this stage cannot be the best any more."""
        self.starts = 0
        """Random starts drawn so far."""
        self.guesses = Guesses(task) if search.guesses and task else None

    def next_turns(self, model: RecursiveModel) -> list["Turn"]:
        """The attempts of the next stage; none if there is none, or need not be one."""
        if not self.stages or (
            self.search.early_exit and any(attempt.accepted for attempt in self.attempts)
        ):
            return []
        way, count, steps = self.stages.pop(0)
        if way == "guess":
            return self.next_guesses(count, steps)
        tokens = self.question.tokens
        turns = [Turn(self, way, tokens, steps) for _ in range(count)]
        self.running = count
        if way == "symmetry":
            assert self.task is not None
            drawn = self.task.symmetries(len(turns), self.generator(0, torch.device("cpu")))
            shown = drawn.apply(tokens.expand(len(turns), -1))
            undo = drawn.inverse()
            for row, turn in enumerate(turns):
                turn.tokens = shown[row]
                turn.undo = Symmetries(undo.source[row, None], undo.names[row, None])
        device = model.H_init.device
        if way == "noise":
            for index, turn in enumerate(turns, start=1):
                turn.noise = self.generator(index, device)
        if way == "restart" or model.config.initial_state == "random" or model.config.noise:
            for turn in turns:
                self.starts += 1
                turn.start = self.generator(STARTS + self.starts, device)
        return turns

    def next_guesses(self, count: int, steps: int) -> list["Turn"]:
        """The likeliest boards with guesses, of `count` that may still be thought about."""
        assert self.guesses is not None
        boards = self.guesses.take(min(count, GUESSES_AT_ONCE))
        self.running = len(boards)
        if len(boards) < count and boards:
            self.stages.insert(0, ("guess", count - len(boards), steps))
        return [
            Turn(self, "guess", torch.from_numpy(board.tokens), steps, likelihood=board.likelihood)
            for board in boards
        ]

    def generator(self, purpose: int, device: torch.device) -> torch.Generator:
        """Randomness that depends on the seed, on the puzzle's place and on nothing else."""
        key = np.random.SeedSequence([self.search.search_seed, self.number, purpose])
        return torch.Generator(device).manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))

    def accept(self, steps: Fraction) -> None:
        """An answer has been accepted: which attempts of the stage need not go on?"""
        if self.search.early_exit:
            if self.search.verify:  # an answer that keeps the rules is right
                self.limit = 0
            elif self.search.select == "first":
                self.limit = min(self.limit, steps)

    def end(
        self,
        turn: "Turn",
        attempt: Attempt,
        probabilities: Float[np.ndarray, "cells vocab"] | None = None,
    ) -> None:
        """An attempt has come to its end; `probabilities`, if known, tell what to guess next."""
        self.attempts.append(attempt)
        self.running -= 1
        if self.guesses is not None and probabilities is not None and not attempt.accepted:
            self.guesses.branch(turn.tokens.numpy(), probabilities, turn.likelihood)

    def thought(self) -> Thought:
        return Thought(
            self.question.tokens.numpy(),
            best(self.attempts, self.search.select),
            len(self.attempts),
            sum(attempt.steps for attempt in self.attempts),
        )


@dataclass(eq=False)
class Turn:
    """One way of thinking about a puzzle, in a seat or waiting for one."""

    pursuit: Pursuit
    way: Way
    tokens: Int[Tensor, " seq"]
    max_steps: int
    undo: Symmetries | None = None
    noise: torch.Generator | None = None
    """Draws what is added to the latents before each step of a rollout."""
    start: torch.Generator | None = None
    """Draws the first latents, and the noise on those that follow; None: they start as usual."""
    likelihood: float = 1.0
    """Of its guesses."""
    steps: Fraction = Fraction(0)
    """Taken so far."""
    settled: Fraction = Fraction(0)
    """Steps after which the answer has not changed."""
    halts: int = 0
    """Looks in a row at which the model halted on it."""

    @property
    def puzzle(self) -> Int[Tensor, " seq"]:
        """What an answer has to keep: the view that is shown, or the puzzle without the guesses."""
        return self.tokens if self.undo is not None else self.pursuit.question.tokens


class Board(NamedTuple):
    """A puzzle with some guesses filled in."""

    order: float
    """Minus the likelihood, so that the likeliest board is the least."""
    key: bytes
    """Tells boards of the same likelihood apart, whichever came first."""
    tokens: Integer[np.ndarray, " cells"]

    @property
    def likelihood(self) -> float:
        """How likely all of its guesses are, if the puzzle has a single answer, says the model."""
        return -self.order


class Guesses:
    """The boards of a puzzle that have not been thought about yet."""

    def __init__(self, task: Task):
        self.task = task
        self.boards: list[Board] = []

    def branch(
        self,
        tokens: Integer[np.ndarray, " cells"],
        probabilities: Float[np.ndarray, "cells vocab"],
        likelihood: float = 1.0,
    ) -> None:
        """Add what may come of a board: one cell filled in, in every way that is possible.

        It is the cell with the fewest possible tokens, a forced one counting as if it had two, as
        there is little to learn from it; of several, the one that the model is least sure of.
        """
        possible = self.task.possible(tokens)
        count = possible.sum(1)
        blank = ~possible[np.arange(len(tokens)), tokens]
        if not blank.any() or not count[blank].all():
            return
        share = np.where(possible, probabilities + 1e-9, 0)
        share /= share.sum(1, keepdims=True).clip(1e-9)
        cells = np.flatnonzero(blank)
        cell = min(cells, key=lambda cell: (max(count[cell], 2), share[cell].max()))
        for token in np.flatnonzero(possible[cell]):
            board = tokens.copy()
            board[cell] = token
            order = -likelihood * float(share[cell, token])
            heapq.heappush(self.boards, Board(order, board.tobytes(), board))

    def take(self, count: int) -> list[Board]:
        """The likeliest boards, or as many as there are."""
        return [heapq.heappop(self.boards) for _ in range(min(count, len(self.boards)))]
