"""`think_stream()` runs any number of puzzles through a batch of fixed size.

A batch has seats. Every seat holds one attempt at one puzzle (see `search.py`). When an attempt
ends, the next one takes the seat and starts afresh while the others continue. So no step is spent
on a finished puzzle, and memory does not grow with the number of puzzles. With early exit the
answer is read after every H-cycle, not only after a supervision step of several: all H-cycles are
alike, so a puzzle can leave after any of them.

An answer does not depend on the other seats. A rollout has its own random generator, and steps, not
the time of seating, decide whether an attempt is cut short.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ostinato.data.tasks import task_named
from ostinato.inference.pursuit import Look, Pursuit, Question, Thought, Turn
from ostinato.inference.search import FIXED, Search
from ostinato.inference.seats import Seats
from ostinato.inference.think import Step, check_tokens, usual_batch_size
from ostinato.models import RecursiveModel

READ_AHEAD = 16
"""Batches of puzzles that may be read before the oldest puzzle is done. It bounds the memory for
answers that wait for their turn."""


def think_stream(
    model: RecursiveModel,
    questions: Iterable[Question],
    search: Search = FIXED,
    max_steps: int | None = None,
    batch_size: int | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_look: Callable[[Look], None] | None = None,
) -> Iterator[Thought]:
    """Think about every question as `search` says; yield thoughts in the order of the questions.

    `max_steps` is the usual number of steps, the unit of the search's depths (default: as in
    training). Questions are read as seats become free, starting with `batch_size` of them (default:
    see `usual_batch_size`). `on_step` is called at each look at the answers; it gets the views as
    they sit in the batch, and the step number of the first seat. `on_look`, for a single question,
    gets the surest of its attempts. Raises ValueError for tokens that
    do not fit the model, and for a search that needs the rules of an unknown kind of puzzle.
    """
    usual = model.config.halt_max_steps if max_steps is None else max_steps
    batch_size = usual_batch_size(model) if batch_size is None else batch_size
    for name, value in (("max_steps", usual), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    search = feasible(search, model)
    task = task_named(model.config.task) if model.config.task else None
    numbered = enumerate(questions)
    seats = Seats(model, search, task)
    waiting: deque[Turn] = deque()
    unfinished: deque[Pursuit] = deque()
    while True:
        while (
            len(seats.turns) + len(waiting) < batch_size
            and len(unfinished) < READ_AHEAD * batch_size
            and (entry := next(numbered, None)) is not None
        ):
            check_tokens(model, entry[1].tokens[None])
            pursuit = Pursuit(*entry, search, usual, task)
            unfinished.append(pursuit)
            waiting.extend(pursuit.next_turns(model))
        free = batch_size - len(seats.turns)
        seats.add([waiting.popleft() for _ in range(min(free, len(waiting)))])
        if not seats.turns:
            return
        for pursuit in seats.think(on_step, on_look):
            if pursuit.running == 0:
                waiting.extendleft(reversed(pursuit.next_turns(model)))
        while unfinished and unfinished[0].running == 0:
            yield unfinished.popleft().thought()


def feasible(search: Search, model: RecursiveModel) -> Search:
    """Return a search without what the model's puzzles do not have, if other ways remain.

    Raises ValueError if none remains, or if it needs rules that are not known.
    """
    task = task_named(model.config.task) if model.config.task else None
    if search.verify and task is not None and not (task.has_rules or search.guesses):
        raise ValueError("the rules of these puzzles are not known: leave out verify")
    if task is None and (search.verify or search.views):
        raise ValueError(
            "the model does not say what its puzzles are, so their rules and symmetries are not "
            "known: leave out verify and views"
        )
    if search.views and task is not None and not task.is_symmetric:
        if not (search.rollouts or search.restarts or search.guesses):
            raise ValueError(
                f"no symmetries of this {task.title} are known: choose another search, or train "
                "with --symmetries"
            )
        search = replace(search, views=0, view_depth=Search.view_depth)
    if search.guesses and (task is None or not task.guessable):
        raise ValueError(
            "guesses are for puzzles whose rules say what a cell may hold, "
            f"not {task and task.title}: leave them out"
        )
    return search
