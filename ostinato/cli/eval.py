"""`ostinato eval RUN`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ostinato.cli import Command, eval_text
from ostinato.cli.arguments import read_search
from ostinato.cli.tables import print_tables
from ostinato.inference.search import FIXED, SEARCHES, Search
from ostinato.numbers import to_json

if TYPE_CHECKING:
    from ostinato.data.puzzles import PuzzleSet
    from ostinato.evaluation.arc import ArcVotes, Tally
    from ostinato.evaluation.puzzles import Evaluation
    from ostinato.models import RecursiveModel
    from ostinato.training.distributed import World
    from ostinato.training.run_folder import RunFolder

PAUSE = 30.0
"""Seconds between two lines of progress if there is no terminal."""


@dataclass(frozen=True)
class Eval:
    """Measure a trained model on puzzles it has not seen.

    A run's own test puzzles are taken unless others are given; that result, with as many steps as
    in training, is also kept in RUN/result.json, in place of the one on validation.

    The variants of a task of ARC vote for its answers: pass@K is the share of tests with the right
    one among the first K, and RUN/submission.json holds the first two. Where no answer is known,
    as in a contest, only this file and the votes are written.

    A language model is measured on text; ostinato eval RUN --help has its settings.

    Several processes: torchrun --nproc-per-node 8 -m ostinato eval RUN
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The model: a run folder, or a weights file (which needs --data)."""
    data: Path | None = None
    """Take other puzzles: a data set folder, a CSV file, or a folder with test.csv."""
    split: str | None = None
    """Take this part of the data set: test (the default), validation or train."""
    max_steps: int | None = None
    """Think about each puzzle for this many steps (default: as many as in training)."""
    depths: Annotated[tuple[int, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    """Think for the largest of these numbers of steps, and show how accuracy and movement of the
    states go on after each of them. `ostinato plot` draws what --json prints."""
    batch_size: int | None = None
    """Think about this many puzzles at a time at most (default: 512, or on a CPU as many as its
    caches hold)."""
    compile: bool = False
    """Compile the model: two to three times as fast on a CPU after a minute or two of compiling;
    needs a C++ compiler."""
    task: str | None = None
    """Kind of puzzle of your own, FILE.py:Class, that the model was trained on."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Think in this dtype. "auto": as in training, but float32 on a CPU slow in bfloat16."""
    json: bool = False
    """Print one JSON object instead of tables."""
    data_root: Path = Path("data")
    """Folder of the data sets of runs; missing ones are rebuilt there."""
    search: Annotated[str | None, tyro.conf.arg(metavar="|".join(SEARCHES))] = None
    """Measure this search too, beside thinking for a fixed number of steps. The search options
    change its settings; they also work without a name."""
    how: Search = FIXED

    def run(self) -> int:
        from ostinato.data.own import load_kind
        from ostinato.training.distributed import World

        if self.depths and (self.max_steps is not None or min(self.depths) < 1):
            raise ValueError("--depths takes numbers of steps from 1, without --max-steps")
        if self.task is not None:
            load_kind(self.task)
        with World.join() as world:
            return self.measure(world)

    def measure(self, world: "World") -> int:
        """Measure this process's share of the puzzles; the main process prints and writes."""
        from ostinato.cli.tables import print_search
        from ostinato.evaluation.arc import ArcVotes, tally_for
        from ostinato.evaluation.puzzles import evaluate
        from ostinato.evaluation.search import evaluate_search
        from ostinato.files import write_json
        from ostinato.models import RecursiveModel
        from ostinato.training.run import pick_device
        from ostinato.training.run_folder import RunFolder
        from ostinato.weights.load import load

        if world.size > 1 and self.how != FIXED:
            raise ValueError("a search is measured by one process: leave out torchrun")
        model = load(
            self.model,
            world.device(pick_device(self.device)),
            kind=RecursiveModel,
            forward_dtype=self.forward_dtype,
        )
        if self.compile:
            model.compile_reasoning(dynamic=True)
        if world.size > 1:  # one process builds the data if they are not there
            world.ask_main("puzzles", lambda: find_puzzles(self, model)[1])
        puzzles, place = find_puzzles(self, model)
        steps = max(self.depths) if self.depths else self.max_steps
        check_identifiers(RunFolder(self.model), place)
        tally = tally_for(place, self.split or "test")
        if isinstance(tally, ArcVotes) and not tally.answered:
            return self.hand_in(model, puzzles, tally, world)
        with progress(len(puzzles), world.is_main) as show:
            result = evaluate(
                model,
                puzzles,
                self.batch_size,
                steps,
                rank=world.rank,
                world_size=world.size,
                sum_over_ranks=world.sum,
                progress=show,
                on_answers=None if tally is None else tally.add,
            )
        gather(tally, world)
        if not world.is_main:
            return 0
        content = as_json(self, result, place, model)
        found = None
        if self.how != FIXED:
            with progress(len(puzzles)) as show:
                found = evaluate_search(
                    model, puzzles, self.how, self.batch_size, self.max_steps, show
                )
        shares: dict[str, float] = {}
        files: dict[str, object] = {}
        if tally is not None:
            shares, files = tally.shares(), tally.files()
            content |= shares
        try:
            if self.json:
                searched = {} if found is None else {"search": asdict(found)}
                print(to_json(content | searched))
            else:
                rated_by = str(puzzles.metadata.notes.get("rated_by", ""))
                print_tables(result, content, shares, rated_by, self.depths)
                if found is not None:
                    print_search(result, found, rated_by)
        finally:  # keep the result even if printing it fails
            if self.of_the_run:
                folder = RunFolder(self.model)
                write_json(folder.result, content)
                for name, file in files.items():
                    write_json(folder.path / name, file)
        return 0

    @property
    def of_the_run(self) -> bool:
        """Return whether the run's own standard evaluation is asked for, whose result it keeps."""
        usual = self.max_steps is None and not self.depths
        return usual and self.data is None and self.split in (None, "test")

    def hand_in(
        self, model: "RecursiveModel", puzzles: "PuzzleSet", votes: "ArcVotes", world: "World"
    ) -> int:
        """Vote where no answer is known: write the answers without measuring anything."""
        from ostinato.evaluation.arc import vote
        from ostinato.files import write_json
        from ostinato.training.run_folder import RunFolder

        if not self.of_the_run or self.how != FIXED:
            raise ValueError(
                "these tasks have no known answers, so nothing can be measured: write a submission "
                f"with ostinato eval {self.model}, without other options"
            )
        with progress(len(puzzles), world.is_main) as show:
            share = {"rank": world.rank, "world_size": world.size}
            vote(model, puzzles, votes, self.batch_size, **share, progress=show)
        gather(votes, world)
        if world.is_main:
            written = []
            for name, file in votes.files().items():
                written.append(str(RunFolder(self.model).path / name))
                write_json(Path(written[-1]), file)
            if self.json:
                print(to_json({"model": str(self.model), "puzzles": 0, "files": written}))
            else:
                tasks = f"{len(votes.tasks):,} tasks, none of them with a known answer"
                print(f"{tasks}: see {' and '.join(written)}")
        return 0


def parse(words: list[str]) -> Command:
    """Parse the words behind `eval`; the run of a language model has flags of its own."""
    if eval_text.class_of_run(words) in ("TextRecipe", "PromptRecipe"):
        return eval_text.parse(words)
    try:
        return read_search(Eval, words, "eval").run
    except ValueError:
        from ostinato.weights.files import locate

        if words and not words[0].startswith(("-", "hf:")):
            locate(words[0])  # if there is no such model, that is what is wrong
        raise


def gather(tally: "Tally | None", world: "World") -> None:
    """Add the counts of the other processes to the tally of the main one."""
    if tally is not None:
        for other in world.collect(tally)[1:]:
            tally.merge(other)


def find_puzzles(arguments: Eval, model: "RecursiveModel") -> tuple["PuzzleSet", Path]:
    """Find the puzzles that the arguments name, and the place that they come from."""
    from ostinato.data.puzzles import PuzzleSet
    from ostinato.data.stored import check
    from ostinato.training.config import Recipe
    from ostinato.training.config_file import read_config
    from ostinato.training.run_folder import RunFolder

    split, folder = arguments.split or "test", arguments.data
    if folder is None:
        config = RunFolder(arguments.model).config
        if not config.exists():
            raise ValueError(
                f"{arguments.model} does not say what it was trained on: give puzzles with --data"
            )
        recipe = read_config(config, Recipe)
        folder = recipe.data.prepare(arguments.data_root, say)
        return PuzzleSet.load(folder, split), folder
    if not folder.exists():
        raise ValueError(f"there is no {folder}: give a data set folder or a CSV file with --data")
    if folder.is_file():
        if arguments.split is not None:
            raise ValueError(f"{folder} is one file, without splits: leave out --split")
        return read_table(folder, model, arguments.data_root), folder
    tables = sorted(path.name for path in folder.glob("*.csv"))
    if not tables or any(folder.glob("*/dataset.json")):
        puzzles = PuzzleSet.load(folder, split)
        check(puzzles, str(folder / split), say)
        return puzzles, folder
    if f"{split}.csv" not in tables:
        raise ValueError(f"{folder} has no {split}.csv but {', '.join(tables)}: name one of them")
    path = folder / f"{split}.csv"
    return read_table(path, model, arguments.data_root), path


def say(line: str) -> None:
    """Report on standard error."""
    print(line, file=sys.stderr)


def check_identifiers(run: "RunFolder", data: Path) -> None:
    """Raise ValueError if the ids of a data set stand for other puzzles than in training."""
    names = data / run.identifiers.name
    if not (run.identifiers.exists() and names.exists()):
        return
    if names.read_bytes() != run.identifiers.read_bytes():
        raise ValueError(
            f"the puzzle ids of {data} stand for other variants than those that {run.path} was "
            f"trained on: give the data set whose {names.name} is that of the run"
        )


def read_table(path: Path, model: "RecursiveModel", data_root: Path) -> "PuzzleSet":
    """Read all rows of a CSV file with puzzles of the model's kind; keep ratings in `data_root`."""
    from ostinato.data.ratings import kept_ratings
    from ostinato.data.tasks import TASKS, find_task

    shape = model.config.seq_len, model.config.vocab_size
    named = find_task(model.config.task)
    for task in TASKS.values() if named is None else (named,):
        if (task.seq_len, task.vocab_size) == shape:
            rows = task.read_rows(path, say)
            rated = kept_ratings(task, rows, data_root / "ratings", say)
            return task.puzzle_set(rows, *rated, source=str(path))
    raise ValueError(
        f"CSV files hold Sudokus or mazes, and puzzles of {shape[0]} cells and {shape[1]} tokens "
        "are neither: give a data set folder with --data"
    )


@contextmanager
def progress(total: int, shown_here: bool = True) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal, occasional lines elsewhere; call it with the number done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True, quiet=not shown_here)
    columns = BarColumn(), MofNCompleteColumn(), "puzzles", TimeRemainingColumn()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total)
        shown = time.monotonic()

        def show(done: float) -> None:
            nonlocal shown
            bar.update(task, completed=done)
            if hidden and time.monotonic() - shown > PAUSE:
                shown = time.monotonic()
                console.print(f"{done:,.0f} of {total:,} puzzles", highlight=False)

        yield show


def as_json(
    arguments: Eval, result: "Evaluation", place: Path, model: "RecursiveModel"
) -> dict[str, Any]:
    """Return the result with everything that it depends on."""
    return {
        "model": str(arguments.model),
        "data": str(place),
        "split": None if place.is_file() else arguments.split or "test",
        "device": str(model.H_init.device),
        "forward_dtype": model.config.forward_dtype,
        **result.to_json(),
    }
