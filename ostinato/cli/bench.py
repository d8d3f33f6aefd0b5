"""`ostinato bench KIND`: how fast it trains, solves and generates."""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read, read_recipe, suggestion
from ostinato.numbers import to_json
from ostinato.training.config import AnyRecipe

KINDS = {
    "train": "training of a recipe",
    "solve": "a trained model on puzzles",
    "generate": "generation, token by token, by a preset of nanochat",
}
"""Kind → what is measured."""


def parse(words: list[str]) -> Command:
    """Read the words behind `bench`."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: ostinato bench KIND [options]\n\nMeasure the speed of\n")
        print("\n".join(f"  {kind:<9} {what}" for kind, what in KINDS.items()))
        print("\n`ostinato bench KIND --help` explains one.")
        raise SystemExit(0 if words else 2)
    kind, *words = words
    if kind not in KINDS:
        raise ValueError(f"there is no bench {kind!r}{suggestion(kind, KINDS)}")
    if kind == "train":
        arguments, recipe = read_recipe(BenchTrain, words, "bench train", ("training", "model"))
        return lambda: arguments.run(recipe)
    return read(BenchSolve if kind == "solve" else BenchGenerate, words, f"bench {kind}").run


def say(line: str) -> None:
    """Print a line of progress on standard error."""
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class BenchTrain:
    """Measure how fast a recipe trains on random tokens, and compare it with the machine's peak.

    The peak is the speed of a large matrix product in the same dtype. Training and peak are
    measured in turn, several times; the table has the median, the least and the most. A flag
    changes any setting of the recipe's model and training.
    """

    steps: int = 5
    """Take this many training steps in each repetition."""
    repeat: int = 5
    """Repeat the measurement this many times."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def run(self, recipe: AnyRecipe) -> int:
        from ostinato.bench.training import bench_training
        from ostinato.cli.bench_tables import print_training
        from ostinato.training.run import pick_device

        device = pick_device(recipe.training.device)
        speed = bench_training(recipe, device, self.steps, self.repeat, report=say)
        if self.json:
            print(to_json(asdict(speed)))
        else:
            print_training(speed)
        return 0


@dataclass(frozen=True)
class BenchSolve:
    """Measure how many puzzles a second a trained model solves.

    It is measured with all steps for each puzzle, with early exit, and with searches, in turn and
    several times; the table has the median, the least and the most. The first value of --puzzles,
    --batch-size and --max-steps is measured in every mode, each further one with fixed steps and
    with early exit.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, or a weights file (which needs --data)."""
    data: Path | None = None
    """Take other puzzles: a data set folder, a CSV file, or a folder with test.csv."""
    split: str | None = None
    """Take this part of the data set: test (the default), validation or train."""
    puzzles: tuple[int, ...] = (256,)
    """Number of puzzles, counted from the first."""
    batch_size: tuple[int, ...] = ()
    """Think about this many puzzles at a time (default: as many as `ostinato solve`)."""
    max_steps: tuple[int, ...] = ()
    """Think about each puzzle for this many steps (default: as many as in training)."""
    searches: tuple[str, ...] = ()
    """Measure these named searches, such as cascade."""
    search_sizes: tuple[float, ...] = (1.0,)
    """Multiply the depth, views, rollouts and guesses of each search by these numbers."""
    repeat: int = 3
    """Repeat the measurement this many times."""
    compile: bool = False
    """Compile the model; needs a C++ compiler."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Think in this dtype. "auto": as in training, but float32 on a CPU slow in bfloat16."""
    json: bool = False
    """Print one JSON object instead of a table."""
    data_root: Path = Path("data")
    """Folder of the data sets of runs; missing ones are rebuilt there."""

    def run(self) -> int:
        from ostinato.bench.solving import bench_solving, cases_of
        from ostinato.cli.bench_tables import print_solving
        from ostinato.cli.eval import Eval, find_puzzles
        from ostinato.inference.think import usual_batch_size
        from ostinato.models import RecursiveModel
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        model = load(
            self.model,
            pick_device(self.device),
            kind=RecursiveModel,
            forward_dtype=self.forward_dtype,
        )
        usual = [model.config.halt_max_steps]
        for name in ("puzzles", "search_sizes"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one number")
        cases = cases_of(
            list(self.searches),
            list(self.puzzles),
            list(self.batch_size) or [usual_batch_size(model)],
            list(self.max_steps) or usual,
            list(self.search_sizes),
        )
        where = Eval(self.model, data=self.data, split=self.split, data_root=self.data_root)
        puzzles, _ = find_puzzles(where, model)
        if self.compile:
            model.compile_reasoning(dynamic=True)
        speed = bench_solving(
            model,
            puzzles,
            cases,
            self.repeat,
            self.compile,
            report=say,
        )
        if self.json:
            print(to_json({"model": str(self.model), **asdict(speed)}))
        else:
            print_solving(str(self.model), speed)
        return 0


@dataclass(frozen=True)
class BenchGenerate:
    """Measure how fast a preset of nanochat generates one text, with random weights.

    The machine's memory speed, which is the limit, is measured in turn with it; so are other ways
    to multiply, and llama.cpp on the exported file, if you ask for them.
    """

    preset: tyro.conf.Positional[str] = "nano-125m"
    """Take this preset: `ostinato models` lists them."""
    tokens: int = 32
    """Write this many tokens in each repetition."""
    repeat: int = 5
    """Repeat the measurement this many times."""
    ways: tuple[Literal["auto", "numba", "float", "int8"], ...] = ("auto",)
    """Multiply with ternary weights in these ways, and compare the first with the others."""
    against: Literal["llama.cpp"] | None = None
    """Compare with llama.cpp too; it needs --num-streams 1 and the package xllamacpp."""
    num_streams: Literal[1, 2, 4] | None = None
    """Change the number of residual streams of the preset."""
    group_size: int | None = None
    """Change the number of inputs that share a weight scale."""
    activation_group_size: int | None = None
    """Change the number of inputs that share an activation scale."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute in this dtype. "auto": the preset's, but float32 on a CPU slow in bfloat16."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def run(self) -> int:
        from ostinato.bench.generation import bench_generation
        from ostinato.cli.bench_tables import print_generation
        from ostinato.models.dtypes import choose_dtype
        from ostinato.recipes.text import preset_named
        from ostinato.training.run import pick_device

        config, device = preset_named(self.preset), pick_device(self.device)
        dtype: Any = choose_dtype(self.forward_dtype, device, config.forward_dtype)
        names = ("num_streams", "group_size", "activation_group_size")
        changed = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        speed = bench_generation(
            self.preset,
            replace(config, forward_dtype=dtype, **changed),
            device,
            self.tokens,
            self.repeat,
            self.ways,
            self.against == "llama.cpp",
            report=say,
        )
        if self.json:
            print(to_json(asdict(speed)))
            return 0
        print_generation(speed)
        return 0
