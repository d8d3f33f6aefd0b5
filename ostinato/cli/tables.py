"""Print accuracies as tables for people."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ostinato.evaluation.puzzles import Evaluation, Interval, RatingRange
from dataclasses import asdict

from rich.console import Console

from ostinato.evaluation.puzzles import Evaluation
from ostinato.evaluation.search import SearchEvaluation
from ostinato.inference.search import FIXED, Search

STEPS_SHOWN = 16


def print_tables(
    result: "Evaluation",
    content: dict[str, Any],
    others: dict[str, float],
    rated_by: str,
    depths: Sequence[int] = (),
) -> None:
    """Print the result for people who see such a result for the first time.

    `depths` are the steps to show, beside the movement of the states (default: a few, without).
    """
    from rich.console import Console
    from rich.progress_bar import ProgressBar

    screen = Console(highlight=False)
    split = f"{content['split']} " if content["split"] else ""
    screen.print(
        f"\n[bold]{content['model']}[/bold] on {result.puzzles:,} {split}puzzles of "
        f"{content['data']}, {result.steps} steps each, in {content['forward_dtype']}\n",
        soft_wrap=True,
    )
    accuracies = [
        ("puzzles solved (every cell right)", result.exact_accuracy, result.exact_interval),
        ("cells right", result.cell_accuracy, result.cell_interval),
    ]
    for name, score in result.scores.items():
        accuracies.append((name.replace("_", " "), score.share, score.interval))
    rows = [(name, percent(share), span(interval)) for name, share, interval in accuracies]
    rows += [(name, percent(share), "") for name, share in others.items()]
    screen.print(table(("", "", "95 % interval"), rows))

    numbers = sorted(set(depths)) or shown_steps(result.steps)
    rows = []
    for number in numbers:
        share, moved = result.exact_by_step[number - 1], result.drift_by_step[number - 1]
        bar = ProgressBar(1.0, share, 30, finished_style="bar.complete")
        rows.append((str(number), percent(share), bar, f"{moved:.2g}")[: 4 if depths else 3])
    titles = ("after step", "solved", "", "states move by")
    screen.print(table(titles[: 4 if depths else 3], rows))

    if result.exact_by_rating:
        screen.print(rating_table(result.exact_by_rating, rated_by))

    q = result.q_calibration
    rows = []
    for name, right, wrong in (
        ("sure", q.sure_right, q.sure_wrong),
        ("not sure", q.unsure_right, q.unsure_wrong),
    ):
        count = right + wrong
        rows.append((name, f"{count:,}", percent(right / count) if count else "–"))
    screen.print(table(("the model says it is", "puzzles", "of these solved"), rows))
    screen.print(f"{result.puzzles_per_second:,.3g} puzzles per second on {content['device']}\n")


def rating_table(ranges: "list[RatingRange]", rated_by: str) -> "RenderableType":
    """Tabulate accuracy by rating, from easy to hard."""
    title = {"guesses": "guesses needed", "": "rating", "source": "rating"}.get(rated_by, rated_by)
    rows = [
        (
            part.ratings,
            f"{part.puzzles:,}",
            percent(part.exact_accuracy),
            span(part.exact_interval),
        )
        for part in ranges
    ]
    return table((title, "puzzles", "solved", "95 % interval"), rows)


def table(titles: Sequence[str], rows: "Iterable[Sequence[RenderableType]]") -> "RenderableType":
    """Make a table without lines, numbers aligned to the right."""
    from rich.padding import Padding
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for place, title in enumerate(titles):
        grid.add_column(title, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    return Padding(grid, (0, 0, 1, 0))


def shown_steps(total: int) -> list[int]:
    """Return all steps if they are few, else the powers of two and the last."""
    if total <= STEPS_SHOWN:
        return list(range(1, total + 1))
    return sorted({2**n for n in range(total.bit_length()) if 2**n < total} | {total})


def percent(share: float) -> str:
    """Write 0.5 as "50.0 %"."""
    return f"{share:.1%}".replace("%", " %")


def span(interval: "Interval") -> str:
    """Write (0.5, 0.75) as "50.0 – 75.0 %"."""
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %"


SELECTED_BY = {
    "rules": "answers selected by the rules of the puzzle, not by the model alone",
    "first": "answers selected by the model: the first that it halts on, then by q",
    "q": "answers selected by the model: the largest q",
    "residual": "answers selected by the model: the smallest residual",
}
WAYS = {
    "plain": "as it is",
    "symmetry": "symmetric views",
    "noise": "with noise",
    "restart": "random starts",
    "guess": "with guesses",
}


def print_search(fixed: Evaluation, found: SearchEvaluation, rated_by: str) -> None:
    """Compare the search with a fixed number of steps, and show what each part contributed."""
    screen = Console(highlight=False)
    screen.print(f"[bold]{describe(found.search)}[/bold]: {SELECTED_BY[found.selected_by]}\n")
    rows = [
        (
            name,
            percent(result.exact_accuracy),
            span(result.exact_interval),
            f"{steps:.3g}",
            f"{result.puzzles_per_second:,.3g}",
        )
        for name, result, steps in (
            (f"all {fixed.steps} steps", fixed, fixed.steps),
            ("search" if found.search.tries_again else "early exit", found, found.steps_per_puzzle),
        )
    ]
    titles = ("", "solved", "95 % interval", "steps per puzzle", "puzzles/s")
    screen.print(table(titles, rows))
    if found.exact_by_rating:
        screen.print(rating_table(found.exact_by_rating, rated_by))
    rows = []
    for part in found.found:
        for name, count, right in (
            ("accepted", part.accepted, part.accepted_right),
            ("not accepted", part.others, part.others_right),
        ):
            if count:
                rows.append((f"{WAYS[part.way]}, {name}", f"{count:,}", percent(right / count)))
    screen.print(table(("answers found", "puzzles", "of these solved"), rows))
    if found.keep_the_rules is not None:
        screen.print(f"{found.keep_the_rules:,} of {found.puzzles:,} answers keep the rules\n")


def describe(search: Search) -> str:
    """List the settings that differ from the defaults."""
    usual = asdict(FIXED)
    return ", ".join(
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in asdict(search).items()
        if value != usual[name]
    )
