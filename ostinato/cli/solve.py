"""`ostinato solve [RUN] PUZZLE…`."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read_search
from ostinato.data.puzzle_files import (
    STANDARD_INPUT,
    Split,
    WrittenPuzzle,
    read_puzzles,
)
from ostinato.inference.search import LONGER, SEARCHES, Search
from ostinato.numbers import to_json
from ostinato.weights import DEFAULTS, packaged
from ostinato.weights.words import is_meant_as_model, names_model, unknown_model

if TYPE_CHECKING:
    from ostinato.models import RecursiveConfig


@dataclass(frozen=True)
class Solve:
    """Solve puzzles with a trained model, and check its answers by the rules.

    Pass a model first to override the bundled ones: its name, a run folder, or a .safetensors or
    .onnx file. Without one, sudoku9 thinks first, and sudoku9-large solves what it leaves. Then
    pass puzzles (Sudoku: digits, and . or 0 for blanks; maze: # for walls, . or spaces, S and G),
    files of puzzles, or - for standard input, which is also read if there is no puzzle.

    `ostinato solve RUN --arc TASKS` learns new tasks of ARC first, and has options of its own.

    The exit code is 0 if all puzzles are solved, 1 if one is not, 2 for bad input.
    """

    words: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[RUN] [PUZZLE ...]")
    ] = ()
    """The model, if it is not the default one, and the puzzles."""
    file: Path | None = None
    """Read puzzles from this file: one on a line (# begins a comment, but in mazes it is a wall),
    mazes also as boards of several lines; or a CSV table with a column named question or puzzle."""
    task: str | None = None
    """Kind of puzzle of your own, FILE.py:Class, that the model was trained on."""
    watch: bool = False
    """Show how the answer changes step by step."""
    json: bool = False
    """Print a line with a JSON object for each puzzle."""
    max_steps: int | None = None
    """Think about a puzzle for this many steps at most (default: as many as in training;
    twice as many by default where it may stop early)."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Think in this dtype. "auto": as in training, but float32 on a CPU slow in bfloat16."""
    batch_size: int | None = None
    """Think about this many puzzles at a time at most (default: 512, or on a CPU as many as its
    caches hold)."""
    compile: bool = False
    """Compile the model: takes a minute or two, worth it for many puzzles; needs a C++ compiler."""
    search: Annotated[str | None, tyro.conf.arg(metavar="|".join(SEARCHES))] = None
    """Search for puzzles that the model misses; the flags below change its settings."""
    how: Search = LONGER

    def run(self) -> int:
        if self.watch and self.json:
            raise ValueError("--watch draws boards and --json prints objects: choose one of them")
        paths, words = find_models(list(self.words))
        sources = find_puzzles(words, self.file)

        # Slow imports come after the checks of the words
        from rich.console import Console
        from rich.text import Text

        from ostinato.cli.boards import show, verdict
        from ostinato.data.own import load_kind
        from ostinato.data.tasks import find_task
        from ostinato.inference.relay import first_to_accept, solve_in_turn
        from ostinato.models import RecursiveModel
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        if self.task is not None:
            load_kind(self.task)

        @cache
        def model_of(path: Path) -> RecursiveModel:
            settings = {"kind": RecursiveModel, "forward_dtype": self.forward_dtype}
            model = load(path, pick_device(self.device), **settings)
            if self.compile:
                model.compile_reasoning(dynamic=True)
            return model

        how = self.how
        limited = self.max_steps is not None or not how.early_exit
        if limited and self.search is None and how.depth == LONGER.depth:
            how = replace(how, depth=1)
        models = [partial(model_of, path) for path in paths]
        screen = Console(highlight=False, soft_wrap=True)
        config = models[0]().config
        task = find_task(config.task)
        if task is None:
            raise ValueError(f"{paths[0]} {way_out(config, paths[0])}")
        puzzles = read_sources(sources, task.boards)
        first_two = list(islice(puzzles, 2))
        puzzles = chain(first_two, puzzles)
        many = len(first_two) > 1
        as_boards = self.watch or not (many or self.json)
        if as_boards:
            steps = self.max_steps
            solutions = (
                show(*first_to_accept(models, p, how, steps), p, steps, self.watch, screen)
                for p in puzzles
            )
        else:
            solutions = solve_in_turn(models, puzzles, how, self.max_steps, self.batch_size)

        total = solved = hopeless = 0
        for solution in solutions:
            total += 1
            solved += solution.solved
            hopeless += solution.solutions == 0
            if as_boards:
                screen.print("\n" * many, end="")
            elif self.json:
                print(to_json(asdict(solution)), flush=True)
            else:
                style = "green" if solution.solved else "red"
                text = f"{solution.puzzle} {solution.answer} "
                screen.print(Text.assemble(text, (verdict(solution), style)))
        if many and not self.json:
            screen.print(f"{solved} of {total} puzzles solved")
        searches = len(how.stages(1)) > 1 or how.depth > LONGER.depth
        if solved + hopeless < total and not (self.json or self.watch or searches):
            name = "guesses" if how.verify and task.guessable else "cascade"
            screen.print(f"--search {name} tries more.", style="dim")
        return 0 if solved == total else 1


def parse(words: list[str]) -> Command:
    """Parse the words behind `ostinato solve`, in any order."""
    if any(word.partition("=")[0] == "--arc" for word in words):
        from ostinato.cli import solve_arc

        return solve_arc.parse(words)
    switches = {"-h", "--help"}
    for field in (*fields(Solve), *fields(Search)):
        if field.type is bool:
            name = field.name.replace("_", "-")
            switches |= {f"--{name}", f"--no-{name}"}
    # Put flags first, because tyro wants the other words side by side
    flags, others, rest = [], [], iter(words)
    for word in rest:
        if word == "--":
            others += rest
        elif word == str(STANDARD_INPUT) or not word.startswith("-"):
            others.append(word)
        else:
            flags.append(word)
            if word not in switches and "=" not in word:
                flags += islice(rest, 1)  # the flag's value
    return read_search(Solve, [*flags, "--", *others], "solve").run


def find_models(words: list[str]) -> tuple[list[Path], list[str]]:
    """Return the paths of the models, quickest first, and the words that follow them."""
    model, *others = words or [""]
    if names_model(model):
        shipped = packaged().get(model, Path(model))
        return [Path(model) if os.path.exists(model) else shipped], others
    if is_missing(model) or (not os.path.exists(model) and is_meant_as_model(model)):
        raise unknown_model(model, "give a run folder, or a file of puzzles")
    return [packaged()[name] for name in DEFAULTS], words


def way_out(config: "RecursiveConfig", model: Path) -> str:
    """Say why a model cannot read written puzzles, and which command to use instead."""
    from ostinato.data.grids import VOCAB_SIZE
    from ostinato.data.tasks import TASKS

    if config.vocab_size == VOCAB_SIZE:
        return f"answers tasks of ARC: use ostinato solve {model} --arc TASKS"
    shape = config.seq_len, config.vocab_size
    fitting = [task.name for task in TASKS.values() if (task.seq_len, task.vocab_size) == shape]
    if not fitting:
        return "is for puzzles of another kind: measure it with ostinato eval and --data"
    return (
        f"does not say which puzzles it solves: convert it once with ostinato export {model} "
        f"--format safetensors --task {fitting[0]} --output FOLDER"
    )


def find_puzzles(words: list[str], file: Path | None) -> list[WrittenPuzzle | Path]:
    """Sort the words into puzzles and files of puzzles."""
    sources: list[WrittenPuzzle | Path] = []
    for number, word in enumerate(words, start=1):
        if names_model(word):
            raise ValueError(f"{word} is no puzzle: the model is the first word, and only that")
        if is_missing(word):
            raise ValueError(f"{word} does not exist: give a puzzle, or a file of puzzles")
        if os.path.isfile(word) or Path(word) == STANDARD_INPUT:
            sources.append(Path(word))
        else:
            sources.append(WrittenPuzzle(word, f"puzzle {number}"))
    if file is not None:
        if not file.exists() and file != STANDARD_INPUT:
            raise ValueError(f"{file} does not exist: give a file of puzzles")
        sources.append(file)
    if not sources:
        if os.isatty(0):
            raise ValueError("no puzzle: give one, or a file of puzzles, or - to type them")
        sources.append(STANDARD_INPUT)
    return sources


def read_sources(sources: list[WrittenPuzzle | Path], split: Split) -> Iterator[WrittenPuzzle]:
    """Yield the puzzles, in order; files are read when their turn comes."""
    for source in sources:
        if isinstance(source, Path):
            yield from read_puzzles(source, split)
        else:
            yield source


def is_missing(word: str) -> bool:
    """Return whether a word is meant to be a file or folder that does not exist."""
    return not os.path.exists(word) and (os.sep in word or word.endswith((".csv", ".txt")))
