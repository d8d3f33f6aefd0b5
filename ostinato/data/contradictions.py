"""Find examples that contradict the rules of their kind of puzzle, or each other.

Every table and every data set built elsewhere is checked here; random puzzles need not be.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Integer, UInt64

AT_ONCE = 2**12
"""Examples checked together: enough for numpy to be fast, few enough for the CPU caches."""


@runtime_checkable
class Rules(Protocol):
    """The part of a `Task` that judges examples."""

    @property
    def fewest_givens(self) -> int: ...

    def wrong(self, puzzles: np.ndarray, answers: np.ndarray) -> np.ndarray: ...

    def check(self, puzzle: np.ndarray, answer: np.ndarray) -> str | None: ...


def check_examples(
    task: Rules | None,
    inputs: Integer[np.ndarray, "examples seq"],
    labels: Integer[np.ndarray, "examples seq"],
    place: Callable[[int], str],
    report: Callable[[str], None],
    ids: Integer[np.ndarray, " examples"] | None = None,
    ignored: int | None = None,
) -> None:
    """Refuse examples that must be wrong, and report those that may be intended.

    Raises ValueError, with the number of faults and the `place` of the first, for an answer that
    breaks the rules of `task`, and for a question with several answers if the task allows only one.
    Otherwise equal questions with different answers are reported: a maze can have several shortest
    paths, and the rules of other data are not known. Questions of different `ids` count as
    different. Answers with a cell of label `ignored` are not checked by the rules.
    """
    if task is not None:
        wrong, vague = (np.zeros(len(inputs), bool) for _ in range(2))
        for begin in range(0, len(inputs), AT_ONCE):
            rows = slice(begin, begin + AT_ONCE)
            wrong[rows] = task.wrong(inputs[rows], labels[rows])
            if ignored is not None:
                wrong[rows] &= (labels[rows] != ignored).all(axis=1)
            vague[rows] = (inputs[rows] > 1).sum(axis=1) < task.fewest_givens
        for row in first_of(wrong):
            problem = task.check(inputs[row], labels[row])
            refuse(f"{place(row)}: wrong answer: {problem}; correct it", int(wrong.sum()))
        for row in first_of(vague):
            fault = f"{place(row)}: fewer than {task.fewest_givens} givens, so that more than one"
            refuse(f"{fault} answer is right; leave the puzzle out", int(vague.sum()))
    firsts, others = conflicts(inputs, labels, ids)
    if len(others):
        count, first, other = len(np.unique(firsts)), place(firsts[0]), place(others[0])
        if task is not None and task.fewest_givens:
            refuse(f"{other}: the question of {first} with another answer; leave both out", count)
        plural = "question has" if count == 1 else f"{count:,} questions have"
        report(f"{first} and {other}: the same {plural} different answers")


def refuse(fault: str, count: int) -> None:
    """Raise ValueError for the first of `count` faults."""
    raise ValueError(fault + f" (the first of {count:,})" * (count > 1))


def first_of(chosen: Bool[np.ndarray, " examples"]) -> list[int]:
    """Return the index of the first chosen example in a list, which is empty if there is none."""
    return np.flatnonzero(chosen)[:1].tolist()


def conflicts(
    inputs: Integer[np.ndarray, "examples seq"],
    labels: Integer[np.ndarray, "examples seq"],
    ids: Integer[np.ndarray, " examples"] | None = None,
) -> tuple[Integer[np.ndarray, " conflicts"], Integer[np.ndarray, " conflicts"]]:
    """Find examples with the question of an earlier example but another answer.

    Returns the earlier examples and the later ones, pair by pair, in the order of the later ones.
    """
    questions, answers = hashes(inputs), hashes(labels)
    if ids is not None:
        questions += ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    order = np.argsort(questions, kind="stable")
    begins = np.flatnonzero(np.diff(questions[order], prepend=questions[order][:1] + 1))
    leader = order[np.repeat(begins, np.diff(begins, append=len(order)))]
    differ = answers[order] != answers[leader]
    firsts, others = leader[differ], order[differ]
    same = (inputs[firsts] == inputs[others]).all(axis=1)  # not only equal hashes
    firsts, others = firsts[same], others[same]
    by_place = np.argsort(others)
    return firsts[by_place], others[by_place]


def hashes(tokens: Integer[np.ndarray, "rows seq"]) -> UInt64[np.ndarray, " rows"]:
    """Hash each row as the sum of its tokens, each times a random odd number."""
    weights = np.random.default_rng(0).integers(2**64, size=tokens.shape[1], dtype=np.uint64)
    found = np.zeros(len(tokens), np.uint64)
    for begin in range(0, len(tokens), AT_ONCE):
        block = np.asarray(tokens[begin : begin + AT_ONCE])
        found[begin : begin + AT_ONCE] = block.astype(np.uint64) @ (weights | np.uint64(1))
    return found
