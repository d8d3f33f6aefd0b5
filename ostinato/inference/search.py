"""Search: thinking longer, or in several ways, about what the model has not solved at once.

None of it trains anything. A puzzle is thought about in up to five stages, and with early exit
only what is not accepted goes on to the next one:

plain       as it is; `depth` times as many steps as usual help a model that is still at work
symmetry    other views of the puzzle, whose answers are taken back: 89 % of what a TRM fails on it
            solves with other digits ("Speed is Confidence", arXiv 2601.19085)
noise       Gaussian noise on the latent before every step, a rollout for each draw (PTRM, arXiv
            2605.19943)
restart     other first latents, drawn at random, damping and a little noise at every call (EqR,
            arXiv 2605.21488); all starts at once, or one after the other
guess       a digit filled in, then another, until the model sees the rest: a tree of boards, in
            which the rules say what may be filled in and the model what is likely (ours)

Of several answers one is selected: that which was accepted after the fewest steps (arXiv
2601.19085), that of which the model is the surest (PTRM), or that whose logits moved the least in
the end (EqR, arXiv 2605.21488). An answer is accepted when the model halts on it, or with `verify`
when it keeps the rules: then a rule checker has selected it, which no figure may conceal.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Integer

from ostinato.numbers import Seed, check_numbers

Way = Literal["plain", "symmetry", "noise", "restart", "guess"]
Selection = Literal["first", "q", "residual"]
RESIDUAL_STEPS = 3
"""Differences between successive answers that the residual is the mean of (EqR)."""


@dataclass(frozen=True)
class Search:
    """How long and in how many ways to think about a puzzle, and which answer to take."""

    early_exit: bool = False
    """Read the answer after every H-cycle, stop thinking about a puzzle once one is accepted, and
    let the next puzzle take its place. Without it every puzzle gets all steps of all stages."""
    verify: bool = False
    """Accept the answers that keep the rules of the puzzle, by a check, instead of those on which
    the model halts."""
    patience: int = 2
    """H-cycles in a row after each of which the model must halt, on the same answer, to have it
    accepted; after the last it need not have been so many. In the beginning a model is often sure
    too early, which 1 would let pass: 2 was enough wherever it was measured."""
    depth: int = 1
    """Steps of plain thinking, in units of the usual number."""
    views: int = 0
    """Symmetric views of a puzzle, all thought about at the same time."""
    view_depth: int = 2
    """Steps of each view, in units of the usual number."""
    rollouts: int = 0
    """Times to think about a puzzle with noise."""
    rollout_depth: int = 4
    """Steps of each rollout, in units of the usual number."""
    sigma: float = 0.3
    """Standard deviation of the noise; the latents' own is 1."""
    noise_on: Literal["z_L", "z_H", "both"] = "z_L"
    """The latent that gets the noise."""
    restarts: int = 0
    """Times to think about a puzzle from a random start (EqR)."""
    restart_depth: int = 1
    """Steps from each start, in units of the usual number."""
    damping: float = 0.95
    """Share of the network's output in each new latent, after a random start."""
    jitter: float = 0.01
    """Standard deviation of the noise on each new latent, after a random start."""
    one_by_one: bool = False
    """Try one random start after the other until an answer is accepted, instead of all at once."""
    guesses: int = 0
    """Boards with guesses to think about, at most. The rules say which are possible, so `verify`
    has to be set."""
    guess_steps: int = 4
    """Steps of each of these boards."""
    select: Selection = "q"
    """Of several answers take the one that was accepted "first" (by steps; then by q), that with
    the largest "q", or that with the smallest "residual" (how far the logits still moved)."""
    search_seed: Seed = 0
    """Seed of views and noise."""

    def __post_init__(self):
        check_numbers(self)
        for name, least in (
            ("patience", 1),
            ("depth", 1),
            ("view_depth", 1),
            ("rollout_depth", 1),
            ("views", 0),
            ("rollouts", 0),
            ("restarts", 0),
            ("restart_depth", 1),
            ("guesses", 0),
            ("guess_steps", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma is {self.sigma}: give a number that is not negative")
        if not 0 < self.damping <= 1:
            raise ValueError(f"damping is {self.damping}: give a share above 0 and up to 1")
        if not 0 <= self.jitter < math.inf:
            raise ValueError(f"jitter is {self.jitter}: give a number that is not negative")
        if self.one_by_one and not self.early_exit:
            raise ValueError("one_by_one stops at the first accepted answer: it needs early_exit")
        for needed, names in (
            ("views", "view_depth"),
            ("rollouts", "rollout_depth sigma noise_on"),
            ("guesses", "guess_steps"),
            ("restarts", "restart_depth damping jitter one_by_one"),
            ("views or rollouts or restarts", "select search_seed"),
            ("early_exit", "patience"),
        ):
            if not any(getattr(self, number) for number in needed.split(" or ")):
                for name in names.split():
                    if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                        raise ValueError(f"{name} does nothing without {needed}: set them too")
        if self.select == "first" and not self.early_exit:
            raise ValueError('select "first" takes the answer accepted first: it needs early_exit')
        if self.guesses and not self.verify:
            raise ValueError("guesses are made and judged by the rules: set verify with them")

    @property
    def tries_again(self) -> bool:
        """Whether it does more than a single attempt of the usual depth."""
        return len(self.stages(1)) > 1 or self.depth > 1

    def scaled(self, times: float) -> "Search":
        """The same with `times` as much of what it does: extra depth, views, rollouts, guesses."""

        def scale(count: int) -> int:
            return max(1, round(times * count)) if count else 0

        return replace(
            self,
            depth=scale(self.depth) if self.depth > 1 else 1,
            views=scale(self.views),
            rollouts=scale(self.rollouts),
            restarts=scale(self.restarts),
            guesses=scale(self.guesses),
        )

    def stages(self, usual: int) -> list[tuple[Way, int, int]]:
        """Way, number of attempts and steps of each, stage by stage; `usual` steps are usual."""
        steps = self.restart_depth * usual
        restarts: list[tuple[Way, int, int]] = [("restart", self.restarts, steps)]
        if self.one_by_one:
            restarts = [("restart", 1, steps)] * self.restarts
        stages: list[tuple[Way, int, int]] = [
            ("plain", 1, self.depth * usual),
            ("symmetry", self.views, self.view_depth * usual),
            ("noise", self.rollouts, self.rollout_depth * usual),
            *restarts,
            ("guess", self.guesses, self.guess_steps),
        ]
        return [stage for stage in stages if stage[1]]


FIXED = Search()
"""As the published models are evaluated: all steps, and the answer after the last."""
CONFIRMED = Search(early_exit=True, verify=True)
"""Think until the answer keeps the rules. Nothing is lost by that, as such an answer is right."""
SEARCHES = {
    "depth": Search(early_exit=True, depth=4),
    "symmetries": Search(early_exit=True, views=8, select="first"),
    "noise": Search(early_exit=True, rollouts=32, select="first"),
    "restarts": Search(early_exit=True, restarts=16, restart_depth=2, select="first"),
    "cascade": Search(early_exit=True, depth=4, views=8, rollouts=32, select="first"),
    "guesses": Search(early_exit=True, verify=True, guesses=64),
}
"""Name → search, those by the model alone from the cheapest to the one that solves the most."""


def search_named(name: str) -> Search:
    """One of `SEARCHES`; ValueError if there is none of that name."""
    if name not in SEARCHES:
        raise ValueError(f"there is no search {name!r}: choose one of {', '.join(SEARCHES)}")
    return SEARCHES[name]


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one way of thinking about a puzzle came to."""

    way: Way
    answer: Integer[np.ndarray, " seq"]
    """In the puzzle's own view."""
    q_halt: float
    accepted: bool
    """The model halted on it or, with `verify`, it keeps the rules."""
    steps: float
    """Steps taken, with parts of one."""
    settled: float
    """Steps after which the answer did not change any more."""
    residual: float
    """Mean length of the last changes of a cell's logits; infinite where none was measured."""


def best(attempts: Iterable[Attempt], select: Selection) -> Attempt:
    """The attempt to believe: an accepted one if there is one, then by `select`, then the earliest.

    Where none was accepted "first" takes the largest q.
    """

    def rank(attempt: Attempt) -> tuple:
        steps = attempt.steps if select == "first" and attempt.accepted else 0
        doubt = attempt.residual if select == "residual" else -attempt.q_halt
        return not attempt.accepted, steps, doubt

    return min(attempts, key=rank)
