"""Show a puzzle on the terminal: the board of the model's answer, and the steps to it."""

import time
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Integer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.data.task import Task
from ostinato.data.tasks import task_named
from ostinato.inference.pursuit import Look, Question
from ostinato.inference.search import Search
from ostinato.inference.solve import Solution, suited, tokens_of
from ostinato.inference.stream import think_stream
from ostinato.inference.think import shortly
from ostinato.models import RecursiveModel

ATTEMPTS = {
    "symmetry": "symmetric views",
    "noise": "attempts with noise",
    "restart": "random starts",
    "guess": "boards with guesses",
}
PAUSE = 0.25
"""Seconds for which each picture of an animation is shown."""


def show(
    model: RecursiveModel,
    search: Search,
    puzzle: WrittenPuzzle,
    max_steps: int | None,
    watch: bool,
    screen: Console,
) -> Solution:
    """Solve a puzzle and print the answer as a board, with the verdict.

    With `watch`, the surest answer after every step is shown: on a terminal in the same place,
    elsewhere one below the other.
    """
    (tokens,) = tokens_of(model, puzzle)
    search = suited(search, model)
    givens = answer = tokens.numpy()
    task = task_named(model.config.task)
    animated = watch and screen.is_terminal and not screen.is_dumb_terminal
    stage = Live(console=screen, auto_refresh=False, transient=True) if animated else nullcontext()
    gap = ""  # between a step without a board and the next picture
    with stage as live:

        def picture(title: str, board: Text) -> None:
            if live is None:
                screen.print(title, board, "", sep="\n")
            else:
                live.update(Group(Text(title), board), refresh=True)
                time.sleep(PAUSE)

        def on_look(look: Look) -> None:
            nonlocal answer, gap
            before, answer = answer, look.answer
            sure = f"{torch.tensor(max(look.q_halt)).sigmoid().item():.0%} sure"
            name = ATTEMPTS.get(look.way)  # plain thinking has one attempt
            crowd = f", the surest of {len(look.q_halt)} {name}" if name else ""
            title = f"step {shortly(look.step)} of {look.max_steps}{crowd}: {sure}"
            if live is None and (before == answer).all():
                screen.print(f"{title}, nothing changed")
                gap = "\n"
            else:
                picture(gap + title, paint(task, givens, answer, before))
                gap = ""

        if watch:
            picture("the puzzle", Text(task.draw(givens), style="bold"))
        (thought,) = think_stream(
            model, [Question(tokens)], search, max_steps, on_look=on_look if watch else None
        )
    solution, answer = Solution.of(model, search, thought), thought.attempt.answer
    if animated or not watch:
        screen.print(paint(task, givens, answer, answer), "", sep="\n")
    sentence = verdict(solution)
    sentence = f"{gap}{sentence[0].upper()}{sentence[1:]}."
    screen.print(Text(sentence, style="green" if solution.solved else "red"))
    return solution


def paint(
    task: Task,
    givens: Integer[np.ndarray, " cells"],
    answer: Integer[np.ndarray, " cells"],
    before: Integer[np.ndarray, " cells"],
) -> Text:
    """Paint an answer's board: givens bold, cells that break a rule red, new ones yellow."""
    faults = task.faults(givens, answer)

    def mark(cell: int, symbol: str) -> str:
        if faults[cell]:
            style = "bold red"
        elif answer[cell] != before[cell]:
            style = "yellow"
        else:
            style = "bold" if answer[cell] == givens[cell] else "cyan"
        return f"[{style}]{escape(symbol)}[/]"

    board = Text.from_markup(task.draw(answer, mark))
    board.highlight_regex("[─│┼]+", "dim")
    return board


def verdict(solution: Solution) -> str:
    """Say in half a sentence how solving a puzzle ended."""
    sure = f"the model is {solution.confidence:.0%} sure"
    if solution.solved:
        way = {
            "plain": "",
            "symmetry": " in a symmetric view",
            "noise": " with noise",
            "restart": " from a random start",
            "guess": " after guesses",
        }
        plural = "s" if solution.steps > 1 else ""
        steps = f"{shortly(solution.steps)} step{plural}{way[solution.way]}"
        several = ", one of several solutions" if solution.solutions == 2 else ""
        done = "solved" if solution.checked_by == "rules" else "answered"
        return f"{done} in {steps}{several}; {sure}"
    if solution.solutions == 0:
        return f"not solved: the puzzle has no solution; {sure}"
    several = "; the puzzle has several solutions" if solution.solutions == 2 else ""
    return f"not solved: {solution.problem}{several}; {sure}"
