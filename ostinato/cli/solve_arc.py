"""`ostinato solve RUN --arc TASKS`: learn new tasks of ARC, then answer them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.numbers import to_json

if TYPE_CHECKING:
    from ostinato.evaluation.arc import ArcVotes
    from ostinato.training.new_tasks import TestTimeTraining
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ostinato.data.arc.sources import ArcTask
from ostinato.data.grids import PALETTE, Grid
from ostinato.evaluation.arc import ATTEMPTS, ArcVotes


@dataclass(frozen=True)
class SolveArc:
    """Answer tasks of ARC that a trained model has never seen.

    The model learns them first: each task and random variants of it get rows in the puzzle
    embedding, which are trained on the demonstrations. Then all variants vote for the answers.

    The exit code is 0, or 1 if the answer to a test is known and not among the first two.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The model: a run folder, or a weights file."""
    arc: Path
    """Answer these tasks: a JSON file of one task or of tasks by name, or a folder of tasks."""
    num_aug: int = 100
    """Let this many variants of each task learn and vote, besides the task itself."""
    steps: int = 500
    """Train for this many steps."""
    batch_size: int = 64
    """Train on this many pairs of grids at a time."""
    puzzle_emb_lr: float = 1e-2
    """Learning rate of the rows (sign-SGD)."""
    lr: float = 0.0
    """Learning rate of the weights; 0: only the rows learn."""
    seed: int = 0
    """Seed of the variants and of the training."""
    keep: Path | None = None
    """Keep the data and the trained model in this folder; the command can then be resumed."""
    picture: Path | None = None
    """Draw tasks, answers and votes into this file, ending in .png, .svg or .pdf."""
    json: bool = False
    """Print a submission for the ARC Prize instead of grids."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""

    def run(self) -> int:
        from ostinato.data.arc.sources import read_tasks
        from ostinato.plot.curves import figure_file
        from ostinato.training.new_tasks import TestTimeTraining

        if self.picture is not None:
            figure_file(self.picture)
            if not self.picture.resolve().parent.is_dir():
                raise ValueError(
                    f"{self.picture.parent} does not exist: make it, or draw elsewhere"
                )
        tasks = read_tasks(self.arc)
        settings = TestTimeTraining(
            self.num_aug, self.steps, self.batch_size, self.puzzle_emb_lr, self.lr, self.seed
        )
        if self.keep is not None:
            return self.show(self.learn(list(tasks.values()), settings, self.keep))
        with TemporaryDirectory(prefix="ostinato-") as folder:
            return self.show(self.learn(list(tasks.values()), settings, Path(folder)))

    def learn(self, tasks: list, settings: "TestTimeTraining", folder: Path) -> "ArcVotes":
        """Learn the tasks, and return the votes for all their tests."""
        from ostinato.training.loop import TrainingError
        from ostinato.training.new_tasks import Interrupted, learn_and_vote

        def report(line: str) -> None:
            print(line, file=sys.stderr)

        try:
            return learn_and_vote(self.model, tasks, settings, folder, self.device, report)
        except TrainingError:
            raise ValueError(
                "the loss is no longer finite: lower --lr or --puzzle-emb-lr"
            ) from None
        except Interrupted as reason:
            advice = (
                "the same command goes on" if self.keep else "give --keep FOLDER to go on later"
            )
            raise ValueError(f"{reason}: {advice}") from None

    def show(self, votes: "ArcVotes") -> int:
        """Print the answers that the variants voted for, and draw them if asked to."""
        from rich.console import Console

        from ostinato.cli.solve_arc import show_answers
        from ostinato.plot.arc import draw_tasks

        if self.json:
            print(to_json(votes.submission()))
            screen = Console(quiet=True)
        else:
            screen = Console(highlight=False, soft_wrap=True)
        verdicts = [show_answers(task, votes, screen) for task in votes.tasks]
        if self.picture is not None:
            draw_tasks(votes.to_json(), self.picture)
        return 0 if all(verdicts) else 1


def parse(words: list[str]) -> Command:
    """Parse the words behind `ostinato solve` if --arc is among them."""
    # The model first, because tyro wants the other words to stand together
    return read(SolveArc, words, "solve").run


def paint(grid: Grid, colour: bool) -> Text:
    """Paint the grid in colours, or in digits without them."""
    lines = []
    for row in grid.tolist():
        if colour:
            cells = [Text("  ", style=f"on {PALETTE[cell]}") for cell in row]
            lines.append(Text.assemble(*cells))
        else:
            lines.append(Text(" ".join(map(str, row))))
    return Text("\n").join(lines)


def show_answers(task: ArcTask, votes: ArcVotes, screen: Console) -> bool:
    """Show each test of a task beside its first answers, and whether one is right, if known.

    Without known answers, nothing counts as wrong.
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
