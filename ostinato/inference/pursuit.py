"""Take a question through the stages of a search, and keep its tree of guesses.

The last stage guesses. A model that solves easy puzzles but not this one may solve it once a few
more cells are filled in. So a cell is guessed and, if that is not enough, another one: a tree of
boards (`Guesses`). The rules say which boards are possible and the model which are likely; the
likeliest come first. A board is dropped when some cell can hold nothing any more.
"""

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
"""Boards with guesses of a puzzle to think about at the same time. The number is fixed, so that the
next boards do not depend on the batch."""

STARTS = 10**6
"""Offset of the numbers of random starts, which keeps them apart from the rollouts with noise."""


class Question(NamedTuple):
    """Hold a puzzle to think about."""

    tokens: Int[Tensor, " seq"]
    puzzle_id: int = 0


@dataclass(frozen=True, eq=False)
class Thought:
    """Hold the result of thinking about a puzzle."""

    tokens: Integer[np.ndarray, " seq"]
    """Tokens of the puzzle."""
    attempt: Attempt
    """Selected attempt."""
    attempts: int
    """Number of attempts begun."""
    total_steps: float
    """Supervision steps of all attempts, with fractions: the cost of the answer."""


class Look(NamedTuple):
    """Hold what is seen of the attempts at a puzzle, after each step or part of one."""

    way: Way
    """Stage of the search."""
    step: float
    """Steps that the surest attempt has taken, with fractions, of at most `max_steps`."""
    max_steps: int
    answer: Integer[np.ndarray, " seq"]
    """Answer of the surest attempt, in the puzzle's own view."""
    q_halt: list[float]
    """Logit of each attempt that its answer is right."""


class Pursuit:
    """Take a question through the stages of a search."""

    def __init__(
        self, number: int, question: Question, search: Search, usual: int, task: Task | None
    ):
        self.number, self.question, self.search, self.task = number, question, search, task
        self.stages = search.stages(usual)
        self.attempts: list[Attempt] = []
        self.running = 0
        """Number of attempts that have begun or wait for a seat."""
        self.limit: Fraction | float = math.inf
        """Steps after which an attempt of this stage can no longer be the best."""
        self.starts = 0
        """Number of random starts drawn so far."""
        self.guesses = Guesses(task) if search.guesses and task else None

    @property
    def takes_the_first(self) -> bool:
        """Return whether an accepted answer ends the search: one that keeps the rules is right."""
        return self.search.verify or self.search.select == "first"

    def next_turns(self, model: RecursiveModel) -> list["Turn"]:
        """Return the attempts of the next stage; none if the search is over."""
        if not self.stages or (
            self.search.early_exit and any(attempt.accepted for attempt in self.attempts)
        ):
            return []
        way, count, steps = self.stages.pop(0)
        if way == "guess":
            return self.next_guesses(count, steps, model)
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
        if way == "restart":
            self.draw_starts(turns, device)
        return self.with_starts(turns, model)

    def with_starts(self, turns: list["Turn"], model: RecursiveModel) -> list["Turn"]:
        """Give attempts of their own random numbers to a model that draws some."""
        if model.config.initial_state == "random" or model.config.noise:
            self.draw_starts([turn for turn in turns if turn.start is None], model.H_init.device)
        return turns

    def draw_starts(self, turns: list["Turn"], device: torch.device) -> None:
        """Make a generator for each attempt."""
        for turn in turns:
            self.starts += 1
            turn.start = self.generator(STARTS + self.starts, device)

    def next_guesses(self, count: int, steps: int, model: RecursiveModel) -> list["Turn"]:
        """Return the likeliest boards with guesses; `count` boards may still be tried."""
        assert self.guesses is not None
        boards = self.guesses.take(min(count, GUESSES_AT_ONCE))
        self.running = len(boards)
        if len(boards) < count and boards:
            self.stages.insert(0, ("guess", count - len(boards), steps))
        turns = [
            Turn(self, "guess", torch.from_numpy(board.tokens), steps, likelihood=board.likelihood)
            for board in boards
        ]
        return self.with_starts(turns, model)

    def generator(self, purpose: int, device: torch.device) -> torch.Generator:
        """Make a generator that depends only on the seed, the puzzle's number and `purpose`."""
        key = np.random.SeedSequence([self.search.search_seed, self.number, purpose])
        return torch.Generator(device).manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))

    def accept(self, steps: Fraction) -> None:
        """Limit the other attempts of the stage after an answer was accepted at `steps`."""
        if self.search.early_exit and self.takes_the_first:
            self.limit = min(self.limit, steps)

    def end(
        self,
        turn: "Turn",
        attempt: Attempt,
        probabilities: Float[np.ndarray, "cells vocab"] | None = None,
    ) -> None:
        """Record the end of an attempt; `probabilities`, if known, give the next guesses."""
        self.attempts.append(attempt)
        self.running -= 1
        if self.guesses is not None and probabilities is not None and not attempt.accepted:
            self.guesses.branch(turn.tokens.numpy(), probabilities, turn.likelihood)

    def thought(self) -> Thought:
        return Thought(
            self.question.tokens.numpy(),
            best(self.attempts, "first" if self.takes_the_first else self.search.select),
            len(self.attempts),
            sum(attempt.steps for attempt in self.attempts),
        )


@dataclass(eq=False)
class Turn:
    """Hold the state of one attempt at a puzzle, in a seat or waiting for one."""

    pursuit: Pursuit
    way: Way
    tokens: Int[Tensor, " seq"]
    max_steps: int
    undo: Symmetries | None = None
    noise: torch.Generator | None = None
    """Generator of the noise on the latents before each step of a rollout."""
    start: torch.Generator | None = None
    """Generator of the first latents and of the noise on later ones; None: the usual start."""
    likelihood: float = 1.0
    """Likelihood of the guesses."""
    steps: Fraction = Fraction(0)
    """Steps taken so far."""
    settled: Fraction = Fraction(0)
    """Steps after which the answer has not changed."""
    halts: int = 0
    """Number of consecutive looks at which the model halted on this answer."""

    @property
    def puzzle(self) -> Int[Tensor, " seq"]:
        """Return the puzzle to check an answer against: the view, or the one without guesses."""
        return self.tokens if self.undo is not None else self.pursuit.question.tokens

    def own(self, answer: Int[Tensor, " seq"]) -> Int[Tensor, " seq"]:
        """Return an answer to the attempt's view in the puzzle's own view."""
        return answer if self.undo is None else self.undo.apply(answer[None])[0]


class Board(NamedTuple):
    """Hold a puzzle with some guesses filled in."""

    order: float
    """Minus the likelihood, so that the likeliest board sorts first."""
    key: bytes
    """Tie-breaker for boards of the same likelihood, independent of their arrival."""
    tokens: Integer[np.ndarray, " cells"]

    @property
    def likelihood(self) -> float:
        """Return the model's probability that all guesses are right, given a single answer."""
        return -self.order


class Guesses:
    """Keep the boards of a puzzle that have not been tried yet, the likeliest first."""

    def __init__(self, task: Task):
        self.task = task
        self.boards: list[Board] = []

    def branch(
        self,
        tokens: Integer[np.ndarray, " cells"],
        probabilities: Float[np.ndarray, "cells vocab"],
        likelihood: float = 1.0,
    ) -> None:
        """Add the children of a board: one cell, filled in every possible way.

        The cell is the one with the fewest possible tokens. A forced cell counts as if it had two,
        because it tells little. Among several, take the one that the model is least sure of.
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
        """Take the `count` likeliest boards, or as many as there are."""
        return [heapq.heappop(self.boards) for _ in range(min(count, len(self.boards)))]
