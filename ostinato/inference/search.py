"""Search: think longer, or in several ways, about puzzles that the model misses.

Search trains nothing. A puzzle goes through up to five stages. With early exit, only puzzles
without an accepted answer go on to the next stage:

plain       the puzzle as it is, for `depth` times the usual number of steps, which helps a model
            that has not settled yet
symmetry    symmetric views of the puzzle, whose answers are mapped back; a TRM solves 89 % of the
            puzzles it misses with other digits ("Speed is Confidence", arXiv 2601.19085)
noise       Gaussian noise on the latent before every step, one rollout per draw (PTRM, arXiv
            2605.19943)
restart     random first latents, with damping and a little noise at every call (EqR, arXiv
            2605.21488); all starts at once, or one after the other. Best for models that were
            trained from random latents: others often settle on boards that change the givens
guess       digits filled in one by one until the model solves the rest: a tree of boards, in which
            the rules say what is possible and the model what is likely (ours)

One of several answers is selected: the one accepted after the fewest steps (arXiv 2601.19085), the
one that the model is surest of (PTRM), or the one whose logits moved least in the end (EqR). An
answer is accepted when the model halts on it or, with `verify`, when it keeps the rules. With
`verify` a rule checker selects the answer, so any figure must say so.
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
"""Number of differences between successive logits that the residual averages (EqR)."""


@dataclass(frozen=True)
class Search:
    """Set how long and in how many ways to think about a puzzle, and which answer to take."""

    early_exit: bool = False
    """Read the answer after every H-cycle, stop at an accepted one, and give the seat to the next
    puzzle. Without it every puzzle gets all steps of all stages."""
    verify: bool = False
    """Accept an answer if it keeps the rules of the puzzle, instead of when the model halts."""
    patience: int = 2
    """Accept an answer after this many consecutive H-cycles in which the model halts on it (of
    all, where an attempt has fewer). With 1, a model is often sure too early; 2 was enough in all
    measurements."""
    depth: int = 1
    """Steps of plain thinking, in units of the usual number."""
    views: int = 0
    """Number of symmetric views of a puzzle, all tried at the same time."""
    view_depth: int = 2
    """Steps of each view, in units of the usual number."""
    rollouts: int = 0
    """Number of attempts with noise (rollouts)."""
    rollout_depth: int = 4
    """Steps of each rollout, in units of the usual number."""
    sigma: float = 0.3
    """Standard deviation of the noise; that of the latents is 1."""
    noise_on: Literal["z_L", "z_H", "both"] = "z_L"
    """Latent that gets the noise."""
    restarts: int = 0
    """Number of attempts from a random start (EqR), best for models trained with --initial-state
    random; others often settle on boards that change the givens."""
    restart_depth: int = 1
    """Steps from each start, in units of the usual number."""
    damping: float = 0.95
    """Share of the network's output in each new latent after a random start."""
    jitter: float = 0.01
    """Standard deviation of the noise on each new latent after a random start."""
    one_by_one: bool = False
    """Try random starts one after the other until an answer is accepted, not all at once."""
    guesses: int = 0
    """Maximum number of boards with guesses. The rules say which are possible, so set `verify`
    too."""
    guess_steps: int = 4
    """Steps of each board with guesses."""
    select: Selection = "q"
    """Select the answer accepted "first" (by steps, then by q), the one with the largest "q", or
    the one with the smallest "residual" (how far the logits still moved)."""
    search_seed: Seed = 0
    """Seed of views, noise and random starts."""

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
        """Tell whether the search goes beyond a single attempt of the usual depth."""
        return len(self.stages(1)) > 1 or self.depth > 1

    def scaled(self, times: float) -> "Search":
        """Return this search with `times` the extra depth, views, rollouts, restarts, guesses."""

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
        """List way, number of attempts and steps of each attempt by stage, given `usual` steps."""
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
"""Evaluate as the published models are: take all steps, and the answer after the last."""
CONFIRMED = Search(early_exit=True, verify=True)
"""Think until the answer keeps the rules. This loses nothing, because such an answer is right."""
LONGER = replace(CONFIRMED, depth=2)
"""Think so for up to twice as long as in training: of 300 hard Sudokus `sudoku9-large` then solves
92.7 % instead of 90.3 %, none of them wrongly sure (lab book, 2026-11-29)."""
SEARCHES = {
    "depth": Search(early_exit=True, depth=4),
    "symmetries": Search(early_exit=True, views=8, select="first"),
    "noise": Search(early_exit=True, rollouts=32, select="first"),
    "restarts": Search(early_exit=True, restarts=16, restart_depth=2, select="first"),
    "cascade": Search(early_exit=True, depth=4, views=32, rollouts=32, select="first"),
    "guesses": Search(early_exit=True, verify=True, guesses=64),
}
"""Name → search. Those by the model alone come first, from the cheapest to the most powerful."""


def search_named(name: str) -> Search:
    """Return one of `SEARCHES`. Raises ValueError if there is none of that name."""
    if name not in SEARCHES:
        raise ValueError(f"there is no search {name!r}: choose one of {', '.join(SEARCHES)}")
    return SEARCHES[name]


@dataclass(frozen=True, eq=False)
class Attempt:
    """Hold the result of one attempt at a puzzle."""

    way: Way
    answer: Integer[np.ndarray, " seq"]
    """Answer in the puzzle's own view."""
    q_halt: float
    accepted: bool
    """True if the model halted on the answer or, with `verify`, if it keeps the rules."""
    steps: float
    """Steps taken, with fractions."""
    settled: float
    """Steps after which the answer no longer changed."""
    residual: float
    """Mean norm of the last changes of a cell's logits; infinite if none was measured."""


def best(attempts: Iterable[Attempt], select: Selection) -> Attempt:
    """Select an attempt: accepted ones first, then by `select`, then the earliest.

    If none was accepted, "first" takes the largest q.
    """

    def rank(attempt: Attempt) -> tuple:
        steps = attempt.steps if select == "first" and attempt.accepted else 0
        doubt = attempt.residual if select == "residual" else -attempt.q_halt
        return not attempt.accepted, steps, doubt

    return min(attempts, key=rank)
