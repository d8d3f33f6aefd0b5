"""`ostinato eval RUN`, for the run of a language model on prompts with a reward."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ostinato.numbers import Count, Seed, to_json

if TYPE_CHECKING:
    from ostinato.training.distributed import World


@dataclass(frozen=True)
class EvalPrompts:
    """Measure a language model on prompts it has not seen, by the reward of its completions.

    pass@K is the chance that one of K samples at temperature 1 is right. The result on the test
    prompts is also kept in RUN/result.json, in place of the one on validation.

    Several processes: torchrun --nproc-per-node 8 -m ostinato eval RUN
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    split: Literal["test", "validation", "train"] = "test"
    """Part of the prompts."""
    samples: Count = 16
    """Completions drawn for each prompt."""
    batch_size: Count = 32
    """Prompts whose completions are drawn at a time."""
    seed: Seed = 0
    """Seed of the completions."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    json: bool = False
    """Print one JSON object instead of a table."""
    data_root: Path = Path("data")
    """Folder of the data sets of runs; missing ones are rebuilt there."""

    def run(self) -> int:
        from ostinato.training.distributed import World

        with World.join() as world:
            return self.measure(world)

    def measure(self, world: "World") -> int:
        """Score this process's share of the prompts; the main process prints and writes."""
        from ostinato.data.prompts import PromptSet
        from ostinato.data.text.words import read_tokenizer
        from ostinato.evaluation.prompts import Sampler, evaluate
        from ostinato.files import write_json
        from ostinato.models import NanoChat
        from ostinato.training.config import PromptRecipe
        from ostinato.training.config_file import read_config
        from ostinato.training.prompts import HELD_OUT
        from ostinato.training.run import pick_device
        from ostinato.training.run_folder import RunFolder
        from ostinato.weights.load import load

        folder = RunFolder(self.model)
        recipe = read_config(folder.config, PromptRecipe)
        device = world.device(pick_device(self.device))
        model = load(self.model, device, kind=NanoChat)
        place = world.ask_main(  # one process builds the data, if need be
            "prompts",
            lambda: recipe.data.prepare(self.data_root, lambda line: print(line, file=sys.stderr)),
        )
        tokenizer = read_tokenizer(model.tokenizer_json, str(folder.tokenizer))
        sampler = Sampler(model, recipe.data.task, tokenizer, recipe.training.max_new_tokens)
        whole = PromptSet.load(place, self.split)
        fitting = whole.up_to(model.config.seq_len, sampler.length)
        if world.is_main and len(fitting) < len(whole):
            print(f"{len(whole) - len(fitting):,} prompts are too long for it", file=sys.stderr)
        scores = evaluate(
            sampler,
            fitting.prompts,
            self.samples,
            self.batch_size,
            (self.seed, HELD_OUT),
            rank=world.rank,
            world_size=world.size,
            sum_over_ranks=world.sum,
        )
        if not world.is_main:
            return 0
        content: dict[str, Any] = {
            "model": str(self.model),
            "data": str(place),
            "split": self.split,
            "device": str(device),
            "seed": self.seed,
            **scores,
        }
        try:
            print(to_json(content)) if self.json else print_table(content)
        finally:  # what has been measured is kept, even if it cannot be shown
            if self.split == "test":
                write_json(folder.result, content)
        return 0


def print_table(content: dict[str, Any]) -> None:
    """Print the result for people."""
    print(
        f"{content['model']} on {content['prompts']:,} {content['split']} prompts, "
        f"{content['samples']} samples each"
    )
    for name, value in content.items():
        if name.startswith("pass@"):
            print(f"  {name:<8} {value:7.1%}")
    print(f"  none of a prompt's samples right {content['none_right']:.1%}")
    print(f"  all of them right {content['all_right']:.1%}")
