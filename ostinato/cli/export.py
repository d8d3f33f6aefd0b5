"""`ostinato export MODEL`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ostinato.files import file_name, home_path
from ostinato.weights import packaged
from ostinato.weights.files import TOKENIZER, WEIGHTS
from ostinato.weights.gguf import Architecture
from ostinato.weights.gguf_blocks import BlockType
from ostinato.weights.words import unknown_model

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from ostinato.models import NanoChat, RecursiveModel
    from ostinato.weights.fitting import Pretrained

TRAINING_SETTINGS = {
    "global_batch_size": "global_batch_size",
    "lr": "lr",
    "lr_min_ratio": "lr_min_ratio",
    "lr_warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
    "beta1": "beta1",
    "beta2": "beta2",
    "puzzle_emb_lr": "puzzle_emb_lr",
    "puzzle_emb_weight_decay": "puzzle_emb_weight_decay",
    "ema_rate": "ema_decay",
    "seed": "seed",
}
"""Settings of training that mean the same: the originals' name → ours."""


@dataclass(frozen=True)
class Export:
    """Write a trained model in another format.

    official: a checkpoint as the originals' code saves it, step_N and all_config.yaml.
    safetensors: model.safetensors and config.json, for the Hub and for every other verb.
    gguf: a language model in one file, for ostinato generate and, if it has a single stream, for
    llama.cpp.
    onnx: a puzzle model's H-cycle as a graph, for onnxruntime and for ostinato solve.
    web: a folder for any web host: a page in which the model thinks.

    What is written is read back, and compared with what was exported: a language model on real
    tokens, an ONNX file on whole answers to puzzles.
    """

    model: tyro.conf.Positional[str]
    """The model: a run folder, a weights file, a checkpoint of the originals, or
    hf:owner/name[/file] on the Hub."""
    format: Literal["official", "safetensors", "gguf", "onnx", "web"]
    """Format to write."""
    output: Path | None = None
    """Write to this folder (default: exports/FORMAT in the run folder)."""
    config: Path | None = None
    """Read the settings of an original checkpoint here, if it has no all_config.yaml beside it."""
    revision: str | None = None
    """Take this version of a model on the Hub."""
    seq_len: int | None = None
    """Cells of a puzzle, if neither the checkpoint nor --task tells."""
    task: str | None = None
    """Kind of puzzle, such as sudoku9; the originals do not record it."""
    puzzle_embeddings: Literal["keep", "mean"] = "keep"
    """"mean": start all puzzle rows from the mean of the file's."""
    num_puzzle_identifiers: int | None = None
    """Number of puzzle rows, with --puzzle-embeddings mean."""
    architecture: Architecture | Literal["auto"] = "auto"
    """gguf: "auto": one that llama.cpp reads, if the model fits it. ostinato-nanochat holds every
    model, bit for bit."""
    blocks: BlockType | Literal["auto"] = "auto"
    """gguf: block type of ternary matrices; "auto": tq2_0 if it fits the groups, else q4_0."""
    tolerance: float | None = None
    """gguf: accept this divergence of the predictions from the model's, in nats a token (default:
    0.01), where a form rounds scales."""
    weights: Literal["fp32", "fp16", "int8"] = "fp32"
    """onnx, web: type that the matrices are stored in; they compute in float32. (The page stores
    fp16 wherever that loses nothing, and never int8.)"""
    puzzles: Path | None = None
    """File of puzzles. onnx: to compare on, instead of generated ones; web: to offer."""
    check_puzzles: int | None = None
    """onnx: number of puzzles to compare on (default: 8, for int8 1,000)."""
    data_root: Path = Path("data")
    """Folder of data sets. A language model is compared on its own validation texts; if they are
    missing, on a module of Python's standard library."""

    def run(self) -> int:
        from ostinato.models import RECURSIVE_MODELS, NanoChat, RecursiveModel
        from ostinato.weights.load import build, read_pretrained
        from ostinato.weights.official import write_official
        from ostinato.weights.save import write_hub

        if self.format != "gguf" and (self.architecture, self.blocks) != ("auto", "auto"):
            raise ValueError("--architecture and --blocks are for --format gguf")
        if self.tolerance is not None and (self.format != "gguf" or not self.tolerance > 0):
            raise ValueError("--tolerance is for --format gguf, and above 0")
        if self.format not in ("onnx", "web") and (self.weights, self.puzzles) != ("fp32", None):
            raise ValueError("--weights and --puzzles are for --format onnx and web")
        if self.format != "onnx" and self.check_puzzles is not None:
            raise ValueError("--check-puzzles is for --format onnx")
        folder = self.output or default_output(self.model, self.format)
        found = read_pretrained(self.model, self.config, self.revision)
        if self.format == "safetensors":
            check_overwrites_nothing(folder, Path(found.source))
        settings = self.settings(found)
        if self.format in ("onnx", "web") and found.model in RECURSIVE_MODELS:
            settings["forward_dtype"] = "float32"  # or the states' start would be rounded
        model = build(found, self.puzzle_embeddings, **settings)
        if self.format == "official":
            if not isinstance(model, RecursiveModel):
                raise ValueError(f"the originals have no {found.model}: choose safetensors or gguf")
            step = found.notes.get("step")
            if not (step is None or (type(step) is int and step >= 0)):  # part of a file name
                raise ValueError(f"{found.source} says it is of step {step!r}: correct it")
            path = write_official(model, folder, step, **self.training())
        elif self.format == "web":
            path = self.write_web(model, folder, found.notes)
        elif self.format == "onnx":
            path = self.write_onnx(model, folder, found.notes)
        elif isinstance(model, NanoChat):
            path = self.write_language_model(model, folder, found.notes)
        elif self.format == "gguf":
            raise ValueError(f"GGUF is for language models, not for {found.model}: use safetensors")
        else:
            path = write_hub(model, folder, **found.notes)
        print(path)
        return 0

    def write_language_model(self, model: "NanoChat", folder: Path, notes: dict[str, Any]) -> Path:
        """Write the model, and report on standard error how well the file agrees with it."""
        from ostinato.models import NanoChat
        from ostinato.weights.agreement import DIVERGENCE, check
        from ostinato.weights.gguf import OURS
        from ostinato.weights.gguf_write import SLOW, export_gguf
        from ostinato.weights.load import load
        from ostinato.weights.save import write_hub

        tokens, text = real_tokens(model, self.data_root)
        if self.format == "gguf":
            path = folder / f"{file_name(str(notes.get('recipe', 'model')))}.gguf"
            form, agreement = export_gguf(
                model,
                path,
                tokens,
                self.architecture,
                self.blocks,
                self.tolerance or DIVERGENCE,
                **notes,
            )
            print(f"{form}: {agreement} of {text}", file=sys.stderr)
            if form.architecture != OURS and form.block_type in SLOW:
                better = "q4_0 or tq2_0, for groups of 32 or of 256 ternary weights, are faster"
                print(f"llama.cpp runs {form.block_type} slowly: {better}", file=sys.stderr)
        else:
            path = write_hub(model, folder, **notes)
            agreement = check(load(path, kind=NanoChat), model, tokens)
            print(f"{agreement} of {text}", file=sys.stderr)
        return path

    def write_onnx(self, model: "NanoChat | RecursiveModel", folder: Path, notes: dict) -> Path:
        """Write it, and say on standard error how well the file agrees with the model."""
        from ostinato.cli.sample_arguments import some_puzzles
        from ostinato.models import RecursiveModel
        from ostinato.weights.onnx import export_onnx

        if not isinstance(model, RecursiveModel):
            raise ValueError("ONNX is for models that solve puzzles: use safetensors or gguf")
        count = self.check_puzzles or (1000 if self.weights == "int8" else 8)
        name = self.name(notes)
        suffix = "" if self.weights == "fp32" else f"-{self.weights}"
        path = folder / f"{name}{suffix}.onnx"
        puzzles = some_puzzles(model, self.puzzles, count)
        agreement = export_onnx(model, path, puzzles, self.weights, **notes)
        size = path.stat().st_size / 1e6
        print(f"{self.weights}, {size:.1f} MB: {agreement}", file=sys.stderr)
        return path

    def write_web(self, model: "NanoChat | RecursiveModel", folder: Path, notes: dict) -> Path:
        from ostinato.cli.sample_arguments import written_puzzles
        from ostinato.models import RecursiveModel
        from ostinato.web.site import write_site

        if not isinstance(model, RecursiveModel):
            raise ValueError("the page is for models that solve puzzles: use safetensors or gguf")
        if self.weights == "int8":
            raise ValueError("the page holds weights in fp16 or fp32: choose one of them")
        puzzles = written_puzzles(model, self.puzzles) if self.puzzles else []
        return write_site(model, folder, self.name(notes), self.weights == "fp16", puzzles)

    def name(self, notes: dict[str, Any]) -> str:
        """Return a file's name: the packaged model's, else its recipe's, else its file's."""
        if self.model in packaged():
            return self.model
        return file_name(str(notes.get("recipe") or Path(self.model).stem))

    def settings(self, found: "Pretrained") -> dict[str, Any]:
        """Return flags that complete the file's settings; ValueError if they contradict them."""
        from ostinato.data.tasks import task_named

        names = ("seq_len", "task", "num_puzzle_identifiers")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        sizes = [("--seq-len", {"seq_len": self.seq_len})] if self.seq_len is not None else []
        if self.task is not None:
            task = task_named(self.task)
            of_task = {"seq_len": task.seq_len, "vocab_size": task.vocab_size}
            sizes.append((f"--task {self.task}", of_task))
            given["seq_len"] = task.seq_len
        known = dict(found.settings or {})
        for flag, wanted in sizes:
            for name, size in wanted.items():
                if known.setdefault(name, size) != size:
                    raise ValueError(f"{flag} means {name} {size}, the model has {known[name]}")
        return given

    def training(self) -> dict[str, Any]:
        """Return the training settings that the originals record, if the model is a run's."""
        from ostinato.training.config import Recipe
        from ostinato.training.config_file import read_config
        from ostinato.training.run_folder import RunFolder, read_json

        path = RunFolder(Path(self.model)).config
        if not path.exists() or read_json(path, dict[str, Any]).get("class") != "Recipe":
            return {}
        config = read_config(path, Recipe).training
        settings = {theirs: getattr(config, ours) for theirs, ours in TRAINING_SETTINGS.items()}
        return {
            "training": settings | {"ema": config.ema_decay > 0},
            "loss_type": config.loss_type,
            "halt_exploration_prob": config.halt_exploration_prob,
        }


def real_tokens(model: "NanoChat", data_root: Path) -> "tuple[Int[Tensor, '1 seq'], str]":
    """Return tokens that fill the model's context, to compare it on, and their source."""
    import numpy as np

    from ostinato.data.text import load_texts
    from ostinato.data.text.token_set import FACTS_FILE
    from ostinato.data.text.words import WordTokenizer
    from ostinato.inference.generate import tokenizer_of
    from ostinato.inference.inspect import probe_tokens

    for facts in sorted(data_root.glob(f"*/{FACTS_FILE}")):
        path = facts.with_name(TOKENIZER)
        # A run has the tokenizer of its data set, byte for byte
        if model.tokenizer_json and path.read_text("utf-8") == model.tokenizer_json:
            texts = load_texts(path.parent, "validation")
            length = min(len(texts), model.config.seq_len)
            tokens = texts.windows(np.zeros(1, np.int64), length)
            return tokens.to(model.embed_tokens.weight.device), f"{path.parent}, validation"
    of_words = isinstance(tokenizer_of(model), WordTokenizer)
    return probe_tokens(model), "all its words" if of_words else "Python's module textwrap"


def check_overwrites_nothing(folder: Path, source: Path) -> None:
    """Raise ValueError if `folder` holds a run, or the very weights to export."""
    if (folder / WEIGHTS).resolve() == source.resolve():
        raise ValueError(f"{folder} holds the model itself: choose another folder with --output")
    for name in ("metrics.jsonl", "environment.json", "checkpoints"):
        if (folder / name).exists():
            raise ValueError(f"{folder} holds a run ({name}): choose another folder with --output")


def default_output(model: str, format: str) -> Path:
    """Return the folder for exports of a local model; ValueError if the model is not local."""
    path = home_path(model)
    if not path.exists():
        if path.parent.is_dir() and model not in packaged():
            raise unknown_model(model, "give a run folder or a file with weights")
        raise ValueError(f"{model} is no local path: say with --output where to write")
    return (path if path.is_dir() else path.parent) / "exports" / format
