"""Grids of ARC on the terminal: two spaces of colour for each cell."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ostinato.data.arc.sources import ArcTask
from ostinato.data.grids import PALETTE, Grid
from ostinato.evaluation.arc import ATTEMPTS, ArcVotes


def paint(grid: Grid, colour: bool) -> Text:
    """The grid in colours, or in digits where there are none."""
    lines = []
    for row in grid.tolist():
        if colour:
            cells = [Text("  ", style=f"on {PALETTE[cell]}") for cell in row]
            lines.append(Text.assemble(*cells))
        else:
            lines.append(Text(" ".join(map(str, row))))
    return Text("\n").join(lines)


def show_answers(task: ArcTask, votes: ArcVotes, screen: Console) -> bool:
    """Each test of a task beside the first answers to it; whether one is right, if that is known.

    Without known answers nothing is wrong.
    """
    colour = screen.color_system is not None
    all_solved = True
    for number, pair in enumerate(task.test, 1):
        ranking = votes.ranking(task.name, pair.input)
        total = sum(candidate.votes for _, candidate in ranking)
        pictures: list[RenderableType] = [Group("test", paint(pair.input, colour))]
        solved = False
        for place, (answer, candidate) in enumerate(ranking[:ATTEMPTS], 1):
            sure = candidate.confidence / candidate.votes
            verdict = Text("")
            if pair.output is not None:
                right = answer.shape == pair.output.shape and bool((answer == pair.output).all())
                solved = solved or right
                verdict = Text("right", "green") if right else Text("wrong", "red")
            title = f"answer {place}: {candidate.votes} of {total} votes, {sure:.0%} sure"
            pictures.append(Group(title, paint(answer, colour), verdict))
        row = Table.grid(padding=(0, 4))
        row.add_row(*pictures)
        which = f", test {number} of {len(task.test)}" if len(task.test) > 1 else ""
        screen.print(Text(f"task {task.name}{which}", style="bold"), row, "", sep="\n")
        all_solved = all_solved and (solved or pair.output is None)
    return all_solved
