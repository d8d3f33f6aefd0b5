"""`ostinato eval RUN`, for the run of a language model."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.cli.eval_prompts import EvalPrompts
from ostinato.numbers import Count, Share, check_numbers, to_json

if TYPE_CHECKING:
    from ostinato.data.text import TokenSet
    from ostinato.training.distributed import World


@dataclass(frozen=True)
class EvalText:
    """Measure a language model on documents it has not seen.

    Bits per byte count all tokens and the end of each document. The result on the test documents is
    also kept in RUN/result.json, in place of the one on validation.

    Several processes: torchrun --nproc-per-node 8 -m ostinato eval RUN
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder of a language model."""
    split: Literal["test", "validation", "train"] = "test"
    """Take this part of the data set."""
    context: int | None = None
    """Read this many tokens before each window again, so that its first tokens have a context
    (default: half of what the model reads; validation in training takes 0)."""
    baselines: bool = False
    """Also score a trigram of bytes, counted on the training documents, and xz -9e."""
    exit_threshold: Share = 0.5
    """For expressions: leave a model with loops once its exit probabilities add up to this."""
    batch_size: Count = 16
    """Read this many windows at a time."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute in this dtype. "auto": as trained, but float32 on a CPU slow in bfloat16."""
    json: bool = False
    """Print one JSON object instead of a table."""
    data_root: Path = Path("data")
    """Folder of the data sets of runs; missing ones are rebuilt there."""

    def run(self) -> int:
        from ostinato.training.distributed import World

        with World.join() as world:
            return self.measure(world)

    def measure(self, world: "World") -> int:
        """Score this process's share of the windows; the main process prints and writes."""
        from ostinato.data.text import ConversationSet, TokenSet, load_texts
        from ostinato.data.text.hops import HopData
        from ostinato.decoding import read_text
        from ostinato.evaluation.conversations import score_answers
        from ostinato.evaluation.hops import evaluate_hops
        from ostinato.evaluation.text import evaluate
        from ostinato.files import write_json
        from ostinato.models import NanoChat
        from ostinato.training.config import TextRecipe
        from ostinato.training.config_file import read_config
        from ostinato.training.run import pick_device
        from ostinato.training.run_folder import RunFolder
        from ostinato.training.text import prepare
        from ostinato.weights.load import load

        check_numbers(self)
        folder = RunFolder(self.model)
        recipe = read_config(folder.config, TextRecipe)
        device = world.device(pick_device(self.device))
        model = load(self.model, device, kind=NanoChat, forward_dtype=self.forward_dtype)
        place = world.ask_main(  # one process builds the data if they are not there
            "texts",
            lambda: prepare(
                recipe, folder, self.data_root, lambda line: print(line, file=sys.stderr)
            ),
        )
        texts = load_texts(place, self.split)
        if self.baselines and isinstance(texts, ConversationSet):
            raise ValueError("--baselines is for plain texts: leave it out for conversations")
        if texts.tokenizer.to_json() != read_text(folder.tokenizer):
            raise ValueError(
                f"{place} has another tokenizer than {self.model}: its corpus has changed since; "
                "restore it"
            )
        context = model.config.seq_len // 2 if self.context is None else self.context
        result = evaluate(
            model,
            texts,
            self.batch_size,
            context,
            rank=world.rank,
            world_size=world.size,
            sum_over_ranks=world.sum,
        )
        if not world.is_main:
            return 0
        answers = {}
        if isinstance(texts, ConversationSet):
            answers = score_answers(model, texts, len(texts.documents)).to_json()
        content: dict[str, Any] = {
            "model": str(self.model),
            "data": str(place),
            "split": self.split,
            "device": str(model.embed_tokens.weight.device),
            "forward_dtype": model.config.forward_dtype,
            "context": context,
            **result.to_json(),
            **answers,
        }
        if isinstance(recipe.data, HopData):
            scores = evaluate_hops(model, texts, 16 * self.batch_size, self.exit_threshold)
            content["hops"] = [asdict(score) for score in scores]
        if self.baselines:
            content["baselines"] = baselines(TokenSet.load(place, "train"), texts)
        try:
            if self.json:
                print(to_json(content))
            else:
                print_table(content)
        finally:  # keep the result even if printing it fails
            if self.split == "test" and self.context is None:
                write_json(folder.result, content)
        return 0


def parse(words: list[str]) -> Command:
    """Parse the words behind `eval` if RUN is that of a language model."""
    kind = EvalPrompts if class_of_run(words) == "PromptRecipe" else EvalText
    return read(kind, words, "eval").run


def class_of_run(words: list[str]) -> str:
    """Return the class of the recipe of the run folder among the words; "" if there is none."""
    from ostinato.decoding import read_json

    for path in (Path(word) / "config.json" for word in words if not word.startswith("-")):
        try:
            return str(read_json(path, dict[str, Any]).get("class"))
        except ValueError:
            continue  # `eval` reports what is wrong with it
    return ""


def baselines(train_set: "TokenSet", held_out: "TokenSet") -> dict[str, float]:
    """Measure the bits per byte of the baselines."""
    from ostinato.evaluation.text import ByteTrigram, xz_bits_per_byte

    return {
        "byte trigram": ByteTrigram(train_set.texts()).bits_per_byte(held_out.texts()),
        "xz -9e": xz_bits_per_byte(held_out.texts()),
    }


def print_table(content: dict[str, Any]) -> None:
    """Print the result for people."""
    from rich.console import Console
    from rich.table import Table

    screen, grid = Console(highlight=False), Table(box=None, show_header=False, padding=(0, 2))
    grid.add_column(justify="left")
    grid.add_column(justify="right")
    grid.add_row("bits per byte", f"{content['bits_per_byte']:.3f}")
    for name, bits in content.get("baselines", {}).items():
        grid.add_row(f"bits per byte of {name}", f"{bits:.3f}")
    grid.add_row("perplexity of a token", f"{content['perplexity']:.2f}")
    for name, label in (
        ("accuracy", "next tokens right"),
        ("copy_rate", "predicted to repeat the last one"),
        ("repeat_rate", "that do repeat it"),
        ("answers_exact", "answers written as expected"),
        ("answers_normalised", "the same without case and punctuation"),
        ("answers_ended", "answers that end by themselves"),
        ("answers_clean", "answers without the start of another turn"),
    ):
        if name not in content:
            continue
        grid.add_row(label, f"{100 * content[name]:.1f} %")
    screen.print(
        f"\n[bold]{content['model']}[/bold] on {content['documents']:,} {content['split']} "
        f"documents, {content['bytes']:,} bytes, {content['tokens']:,} tokens\n",
        soft_wrap=True,
    )
    screen.print(grid)
    for title, rows in (
        ("after each pass", pass_rows(content)),
        ("answers right after each pass, by operators", hop_rows(content)),
    ):
        if rows:
            table = Table(title=title, box=None, padding=(0, 1), title_justify="left")
            for column in rows[0]:
                table.add_column(column, justify="right")
            for row in rows:
                table.add_row(*row.values())
            screen.print("", table)
    speed = content["tokens"] / content["seconds"]
    screen.print(f"\n{speed:,.3g} tokens per second on {content['device']}\n")


def pass_rows(content: dict[str, Any]) -> list[dict[str, str]]:
    """Return the scores after each pass of a looped model, as columns of text."""
    return [
        {
            "pass": str(number),
            "bits per byte": f"{score['bits_per_byte']:.3f}",
            "right": f"{score['accuracy']:.1%}",
            "leave here": f"{score['exits']:.1%}",
        }
        for number, score in enumerate(content.get("passes", ()), start=1)
    ]


def hop_rows(content: dict[str, Any]) -> list[dict[str, str]]:
    """Return the scores on expressions, by their number of operators, as columns of text."""
    rows = []
    for score in content.get("hops", ()):
        rights = [f"{share:.1%}" for share in score["accuracy"]]
        row = {"operators": str(score["operators"]), "answers": str(score["expressions"])}
        row |= {f"pass {n}": right for n, right in enumerate(rights, start=1)}
        if len(rights) > 1:
            row["leave at"] = f"{score['left_pass']:.2f}"
            row["right there"] = f"{score['left_accuracy']:.1%}"
        rows.append(row)
    return rows
