"""What a search came to, as tables."""

from dataclasses import asdict

from rich.console import Console

from ostinato.cli.tables import percent, rating_table, span, table
from ostinato.evaluation.puzzles import Evaluation
from ostinato.evaluation.search import SearchEvaluation
from ostinato.inference.search import FIXED, Search

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
    "guess": "with guesses",
}


def print_search(fixed: Evaluation, found: SearchEvaluation, rated_by: str) -> None:
    """The search beside thinking for a fixed number of steps, and what each way contributed."""
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
    """The settings that are not the default ones."""
    usual = asdict(FIXED)
    return ", ".join(
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in asdict(search).items()
        if value != usual[name]
    )
