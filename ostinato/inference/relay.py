"""Solve with several models in turn: a quick one first, a larger one for what it leaves."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.inference.search import Search
from ostinato.inference.solve import Solution, solve
from ostinato.models import RecursiveModel

AT_ONCE = 256
"""Puzzles that wait for the slower models together; it bounds what is kept."""
PATIENCE = 4
"""Looks in a row at which a quick model must halt on an answer to be believed without the rules.
Where it is wrong it is often sure for a short time."""


def solve_in_turn(
    models: Sequence[Callable[[], RecursiveModel]],
    puzzles: Iterable[WrittenPuzzle],
    search: Search,
    max_steps: int | None = None,
    batch_size: int | None = None,
) -> Iterator[Solution]:
    """Solve puzzles with the first model, and what it does not accept with the next.

    The models, quickest first, are made when they are needed. All but the last think plainly, as
    `plain` says; the last one searches. Solutions come in the order of the puzzles; memory does not
    grow with their number. Raises ValueError as `solve` does.
    """
    *quick, last = models
    if not quick or not search.early_exit:  # then no answer is ever accepted early
        yield from solve(last(), puzzles, max_steps, batch_size, search=search)
        return
    stream = iter(puzzles)
    while chunk := list(islice(stream, AT_ONCE)):
        found: dict[int, Solution] = {}
        for number, make in enumerate(models):
            how = search if number == len(quick) else plain(search)
            open_ = [place for place in range(len(chunk)) if place not in found]
            if not open_:
                break
            asked = (chunk[place] for place in open_)
            answers = solve(make(), asked, max_steps, batch_size, search=how)
            for place, solution in zip(open_, answers, strict=True):
                if solution.accepted_by is not None or number == len(quick):
                    found[place] = solution
        yield from (found[place] for place in range(len(chunk)))


def plain(search: Search) -> Search:
    """Return how a model thinks that is not the last: as long as usual, and only once."""
    patience = search.patience if search.verify else max(PATIENCE, search.patience)
    return Search(early_exit=True, verify=search.verify, patience=patience)


def first_to_accept(
    models: Sequence[Callable[[], RecursiveModel]],
    puzzle: WrittenPuzzle,
    search: Search,
    max_steps: int | None = None,
) -> tuple[RecursiveModel, Search]:
    """Return the first model that accepts an answer, or the last, and how it is to think."""
    *quick, last = models
    for make in quick if search.early_exit else ():
        model = make()
        (solution,) = solve(model, [puzzle], max_steps, search=plain(search))
        if solution.accepted_by is not None:
            return model, plain(search)
    return last(), search
