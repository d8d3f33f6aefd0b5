"""Draw a model that thinks: the board after every pass, its confidence, the moves of its state.

A pass is an H-cycle, after each of which an answer can be read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from ostinato.data.boards import Board, board_of
from ostinato.data.tasks import task_named
from ostinato.files import atomic
from ostinato.inference.pursuit import Question
from ostinato.inference.search import FIXED
from ostinato.inference.stream import think_stream
from ostinato.inference.think import Step, read_puzzle, take_step
from ostinato.models import RecursiveModel
from ostinato.plot.curves import COLORS, decorate, figure_file

BLUE, ORANGE, RED, GREY = (*COLORS[:2], "#B00020", "#7F7F7F")
BOARDS = 8
"""Passes that a still picture shows, at most."""
COLOURS = 64
"""Number of colours of an animation."""
SECONDS = 0.8
"""Time for each pass of an animation, unless there are many; the last one stays longer."""
LONGEST = 12.0
"""Longest time that an animation takes, in seconds."""


def plot_thinking(model: RecursiveModel, puzzle: str, output: Path) -> Path:
    """Draw the passes of a model that thinks about a puzzle until it halts; returns the file.

    A .gif shows one after the other, any other format some of them side by side. Raises ValueError
    for a puzzle that does not fit, for another format, or if matplotlib is not installed.
    """
    Figure, kind = figure_file(output, "gif")
    tokens = read_puzzle(model, puzzle)[0]
    steps: list[Step] = []
    early_exit = replace(FIXED, early_exit=True)
    list(think_stream(model, [Question(tokens)], early_exit, on_step=steps.append))
    passes = Passes(model, tokens.numpy(), steps)
    if kind == "gif":
        figure = Figure(figsize=(4.6, 5.6), layout="constrained")
        board, curve = figure.subplots(2, 1, height_ratios=(5, 1))
        with atomic(output) as file:
            frames = []
            for at in range(-1, len(steps)):
                passes.draw(board, curve, at)
                frames.append(picture(figure))
            durations = [min(SECONDS, LONGEST / len(steps))] * len(steps) + [3 * SECONDS]
            frames[0].save(
                file,
                format="GIF",
                save_all=True,
                append_images=frames[1:],
                duration=[1000 * seconds for seconds in durations],
                loop=0,
            )
        return output
    shown = sorted({round(at) for at in np.linspace(-1, len(steps) - 1, BOARDS)})
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows + 1.4), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=(*[1] * rows, 0.45))
    curve = figure.add_subplot(grid[rows, :])
    for place, at in enumerate(shown):
        axes = figure.add_subplot(grid[divmod(place, columns)])
        passes.draw(axes, curve, at)
    with atomic(output) as file:
        figure.savefig(file, format=kind, dpi=150)
    return output


def picture(figure: Any) -> Any:
    """Return a figure as an image of few colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # which matplotlib needs too

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(COLOURS)


class Passes:
    """Return the passes about one puzzle, each of which can be drawn."""

    def __init__(
        self, model: RecursiveModel, puzzle: Integer[np.ndarray, " cells"], steps: list[Step]
    ):
        config = model.config
        self.puzzle, self.task = puzzle, task_named(config.task)
        self.board = board_of(config.task, config.seq_len, config.vocab_size)
        self.answers = [step.answer[0].cpu().numpy() for step in steps]
        chances = [step.output.logits[0].float().softmax(-1) for step in steps]
        self.sure = [chance.max(-1).values.cpu().numpy() for chance in chances]
        self.whole = [torch.sigmoid(step.q_halt[0].float()).item() for step in steps]

    def draw(self, axes: Any, curve: Any, at: int) -> None:
        """Draw pass number `at`, from 0, or the puzzle at -1; and the confidence up to there."""
        axes.clear()
        curve.clear()
        answer = self.answers[at] if at >= 0 else self.puzzle
        before = self.answers[at - 1] if at > 0 else answer
        faults = self.task.faults(self.puzzle, answer) if at >= 0 else np.zeros(len(answer), bool)
        draw_board(
            axes,
            self.board,
            self.puzzle,
            answer,
            before,
            faults,
            self.sure[at] if at >= 0 else None,
        )
        title = f"pass {at + 1}: {self.whole[at]:.0%} sure" if at >= 0 else "the puzzle"
        axes.set_title(title, fontsize=10)
        numbers = list(range(1, at + 2))
        curve.plot(
            numbers, [100 * q for q in self.whole[: at + 1]], color=BLUE, marker="o", markersize=3
        )
        decorate(curve)
        curve.set_xlim(0.5, len(self.answers) + 0.5)
        curve.set_ylim(-5, 105)
        curve.set_xlabel("passes (H-cycles)", fontsize=9)
        curve.set_ylabel("sure, %", fontsize=9)


def draw_board(
    axes: Any,
    board: Board,
    puzzle: Integer[np.ndarray, " cells"],
    answer: Integer[np.ndarray, " cells"],
    before: Integer[np.ndarray, " cells"],
    faults: np.ndarray,
    sure: Float[np.ndarray, " cells"] | None,
) -> None:
    """Givens are black; the surer, the darker the cell; changed ones framed; faults red."""
    from matplotlib.patches import Rectangle

    axes.set_xlim(0, board.columns)
    axes.set_ylim(board.rows, 0)
    axes.set_aspect("equal")
    axes.set_axis_off()
    size = 130 / max(board.rows, board.columns)
    for cell, token in enumerate(answer.tolist()):
        row, column = divmod(cell, board.columns)
        given = puzzle[cell] != board.blank
        color = "#3B4047" if token == board.wall else "white"
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor="#C8C8C8", lw=0.4))
        if sure is not None and not given:
            shade = 0.4 * float(sure[cell]) ** 2
            color = RED if faults[cell] else BLUE
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, alpha=shade, lw=0))
        if answer[cell] != before[cell]:
            inside = (column + 0.06, row + 0.06)
            axes.add_patch(Rectangle(inside, 0.88, 0.88, fill=False, edgecolor=ORANGE, lw=1.3))
        if token != board.wall:
            color = RED if faults[cell] else "black" if given else "#084F8A"
            weight = "bold" if given else "normal"
            place = (column + 0.5, row + 0.53)
            text = board.symbols[token]
            axes.text(
                *place, text, color=color, weight=weight, ha="center", va="center", fontsize=size
            )
    height, width = (
        min(side, whole) for side, whole in zip(board.box, (board.rows, board.columns), strict=True)
    )
    for x in range(0, board.columns + 1, width):
        axes.plot([x, x], [0, board.rows], color="black", lw=1.2, clip_on=False)
    for y in range(0, board.rows + 1, height):
        axes.plot([0, board.columns], [y, y], color="black", lw=1.2, clip_on=False)


def plot_states(model: RecursiveModel, puzzles: Int[Tensor, "puzzles seq"], output: Path) -> Path:
    """Draw how far the state moves in each pass, for puzzles that are solved in the end and others.

    Raises ValueError for a format that cannot be drawn, or a model whose rules are not known.
    """
    Figure, kind = figure_file(output)
    task = task_named(model.config.task)
    moves, answers = movements(model, puzzles)
    solved = np.array(
        [
            task.check(puzzle, answer) is None
            for puzzle, answer in zip(puzzles.numpy(), answers.numpy(), strict=True)
        ]
    )
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    numbers = np.arange(1, moves.shape[1] + 1)
    for axes, latent, name in zip(
        figure.subplots(1, 2, sharey=True), moves.unbind(-1), ("z_H", "z_L"), strict=True
    ):
        for label, rows, color in (("solved", solved, BLUE), ("not solved", ~solved, ORANGE)):
            if rows.any():
                low, middle, high = np.quantile(latent.numpy()[rows], (0.25, 0.5, 0.75), axis=0)
                axes.plot(numbers, middle, color=color, label=f"{label}, {rows.sum()} puzzles")
                axes.fill_between(numbers, low, high, color=color, alpha=0.15, linewidth=0)
        decorate(axes)
        axes.set_yscale("log")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("passes (H-cycles)")
    axes = figure.axes[0]
    axes.set_ylabel("relative movement")
    axes.legend(frameon=False, fontsize=9)
    with atomic(output) as file:
        figure.savefig(file, format=kind, dpi=150)
    return output


def movements(
    model: RecursiveModel, puzzles: Int[Tensor, "puzzles seq"]
) -> tuple[Float[Tensor, "puzzles passes 2"], Int[Tensor, "puzzles seq"]]:
    """Return how far z_H and z_L move in each pass, relative to their length; and the answers."""
    device = model.H_init.device
    tokens, ids = puzzles.to(device), torch.zeros(len(puzzles), dtype=torch.int32, device=device)
    generator = torch.Generator(device).manual_seed(0)
    random = model.config.initial_state == "random"
    state, moves = model.initial_state(len(puzzles), generator if random else None), []
    relax = model.relaxation(generator)
    answer = tokens
    for number in range(model.config.halt_max_steps * model.config.H_cycles):
        step = take_step(model, state, tokens, ids, float(number), H_cycles=1, relax=relax)
        moved = [
            (new.float() - old.float()).flatten(1).norm(dim=1) / new.float().flatten(1).norm(dim=1)
            for new, old in zip(step.state, state, strict=True)
        ]
        moves.append(torch.stack(moved, dim=1).cpu())
        state, answer = step.state, step.answer
    return torch.stack(moves, dim=1), answer.cpu()
