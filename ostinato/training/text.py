"""Train language models, such as nanochat, on the next token at every position of text windows."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.data.text import ChatData, ConversationSet, TokenSet, load_texts
from ostinato.data.text.template import CHATML
from ostinato.data.text.token_set import IGNORE_LABEL
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.evaluation.conversations import score_answers
from ostinato.evaluation.text import evaluate
from ostinato.files import write_json
from ostinato.inference.samples import Samples
from ostinato.training.config import TextRecipe
from ostinato.training.distributed import World
from ostinato.training.loop import Loop, Outcome, Work
from ostinato.training.run_folder import RunFolder
from ostinato.training.text_state import TextState, mean_metrics, stream_health
from ostinato.weights.load import read_pretrained
from ostinato.weights.save import save_tokenizer, save_weights


def prepare(
    recipe: TextRecipe, folder: RunFolder, root: Path, report: Callable[[str], None]
) -> Path:
    """Build the recipe's data below `root`, in the tokens of the weights that it starts from."""
    tokenizer = None
    if recipe.training.init_from:
        tokenizer = start_tokenizer(recipe, folder)
    return recipe.data.prepare(root, report, tokenizer, recipe.model.seq_len)


def start_tokenizer(recipe: TextRecipe, folder: RunFolder) -> BytePairTokenizer:
    """Return the tokenizer of a run that starts from trained weights: its own, once it has one.

    Raises ValueError if the weights have none.
    """
    if folder.is_begun and folder.tokenizer.exists():
        return BytePairTokenizer.load(folder.tokenizer)
    found = read_pretrained(recipe.training.init_from)
    if not found.tokenizer:
        raise ValueError(f"{found.source} has no tokenizer beside it: give a run's folder")
    tokenizer = BytePairTokenizer.of_json(found.tokenizer, found.source)
    return tokenizer.with_turns() if isinstance(recipe.data, ChatData) else tokenizer


def load_split(data: Path, split: str) -> TokenSet:
    """Return a split of the data set in the folder `data`."""
    return load_texts(data, split)


def check_fits(recipe: TextRecipe, texts: TokenSet, data: Path) -> None:
    """Raise ValueError if the model has other tokens than the data, or windows are too long."""
    wanted, given = texts.tokenizer.vocab_size, recipe.model.vocab_size
    if wanted != given:  # fewer too: a short corpus may have fewer than it was asked for
        other = f", or --num-tokens {given}" if wanted > given else ""
        raise ValueError(
            f"{data} has vocab_size {wanted}, the model {given}: use --vocab-size {wanted}{other}"
        )
    if recipe.model.num_loops == 1 and recipe.training.gate_start < 1:
        raise ValueError("gate_start is for a model with an exit gate: set num_loops above 1")
    if recipe.model.num_loops > 1 and recipe.training.entropy_bonus:
        raise ValueError("entropy_bonus is for a model without loops: set it to 0")
    texts.check_length(recipe.model.seq_len)


def describe(recipe: TextRecipe, train_set: TokenSet, validation_set: TokenSet) -> str:
    """Return a description of the training that is about to start."""
    config, tokens = recipe.training, recipe.training.global_batch_size * recipe.model.seq_len
    epochs = config.total_steps * tokens / len(train_set)
    return (
        f"{len(train_set):,} training and {len(validation_set):,} validation tokens, "
        f"{config.total_steps:,} steps of {tokens:,} tokens ({epochs:.1f} epochs)"
    )


def train(
    recipe: TextRecipe,
    folder: RunFolder,
    train_set: TokenSet,
    validation_set: TokenSet,
    device: torch.device,
    world: World,
    checkpoint: dict | None = None,
    time_limit: float | None = None,
) -> Outcome:
    """Train from the start, or resume from `checkpoint`, until done, signalled or out of time.

    However it ends, the run folder holds a checkpoint from which the same call resumes.
    `time_limit` is in seconds. Raises TrainingError if the loss is no longer finite.
    """
    loop = Loop(recipe, folder, world, time_limit)
    state = TextState.start(recipe, device, world, resumed=checkpoint is not None)
    state.model.tokenizer_json = train_set.tokenizer.to_json()
    if isinstance(train_set, ConversationSet):
        state.model.chat_template = CHATML
    if checkpoint is not None:
        state.restore(checkpoint)
    if world.is_main:
        save_tokenizer(folder.path, state.model)
    work = TextWork(recipe, folder, train_set, validation_set, state)
    return loop.run(work, checkpoint)


class TextWork(Work):
    """The part of the training loop that is specific to language models."""

    unit = "tokens"
    shown = ("train/cross_entropy", "train/bits_per_byte", "validation/bits_per_byte")

    def __init__(
        self,
        recipe: TextRecipe,
        folder: RunFolder,
        train_set: TokenSet,
        validation_set: TokenSet,
        state: TextState,
    ):
        self.recipe, self.folder = recipe, folder
        self.train_set, self.validation_set = train_set, validation_set
        self.state: TextState = state
        config, length = recipe.training, recipe.model.seq_len
        self.units_per_step = config.global_batch_size * length
        self.batches = train_set.batches(
            length,
            config.global_batch_size,
            config.seed,
            start=state.step * config.global_batch_size,
        )
        device = state.model.embed_tokens.weight.device
        self.bytes_of_tokens = train_set.bytes_of_tokens().to(device)
        self.prompts = Samples(state.model, train_set.tokenizer, recipe.training.sample_prompts)
        self.since = time.monotonic()

    def update(self, time_used: float) -> dict[str, Tensor]:
        device = self.bytes_of_tokens.device
        windows, labels = (tensor.to(device) for tensor in next(self.batches))
        metrics = train_step(self.state, self.recipe, windows, time_used, labels)
        labels = self.state.world.part(labels)
        return {**metrics, "bytes": self.bytes_of_tokens[labels[labels != IGNORE_LABEL]].sum()}

    def means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        seconds, self.since = time.monotonic() - self.since, time.monotonic()
        muon, other = self.state.optimizers
        return {
            **mean_metrics(sums, seconds, self.state.world),
            "lr": other.param_groups[0]["lr"],
            "muon_lr": muon.param_groups[0]["lr"],
        }

    def samples(self) -> list[str]:
        return self.prompts.write(self.state.model) if self.state.world.is_main else []

    def validate(self) -> dict[str, float]:
        state, config, world = self.state, self.recipe.training, self.state.world
        state.model.eval()
        result = evaluate(
            state.model,
            self.validation_set,
            config.eval_batch_size,
            rank=world.rank,
            world_size=world.size,
            sum_over_ranks=world.sum,
        )
        health = stream_health(state.model, self.validation_set)
        answers = {}
        if world.is_main and isinstance(self.validation_set, ConversationSet):
            answers = score_answers(state.model, self.validation_set).to_json()
        # The gate is kept as trained so far; the rest no longer changes, nor do the bits
        newest = config.trains_gate(state.step)
        if world.is_main and (newest or result.bits_per_byte < state.best):
            score = {"documents": result.documents, "bits_per_byte": result.bits_per_byte}
            notes = {"recipe": self.recipe.name, "step": state.step, "validation": score}
            save_weights(self.folder.model, state.model, **notes)
            device = str(state.model.embed_tokens.weight.device)
            place = {"model": str(self.folder.path), "split": "validation", "device": device}
            write_json(self.folder.result, {**place, **notes, **result.to_json(), **answers})
        state.best = result.bits_per_byte if newest else min(state.best, result.bits_per_byte)
        state.model.train()
        self.since = time.monotonic()
        return {
            "validation/cross_entropy": result.loss,
            "validation/bits_per_byte": result.bits_per_byte,
            "validation/perplexity": result.perplexity,
            "validation/copy_rate": result.copy_rate,
            **{f"validation/{name}": value for name, value in answers.items()},
            **health,
        }

    def tree(self) -> dict[str, Any]:
        return {**self.state.tree(), "data": self.train_set.fingerprint}

    def best_in_words(self) -> str:
        return f"{self.state.best:.3f} bits per byte on validation at best"


def train_step(
    state: TextState,
    recipe: TextRecipe,
    windows: Int[Tensor, "batch seq_plus_1"],
    time_used: float = 0.0,
    labels: Int[Tensor, "batch seq"] | None = None,
) -> dict[str, Tensor]:
    """Update once from a global batch of windows; return metrics summed over this rank's tokens.

    `labels` defaults to the tokens of the windows; those that are IGNORE_LABEL do not count.
    """
    labels = windows[:, 1:] if labels is None else labels
    num_labels = int((labels != IGNORE_LABEL).sum())
    config, world = recipe.training, state.world
    gate_only = config.trains_gate(state.step + 1)
    factor = 1.0 if gate_only else config.schedule(state.step + 1, time_used)
    state.set_learning_rate(factor)
    sums: dict[str, Tensor] = {}
    micro_batches = list(
        zip(windows.chunk(config.accumulation), labels.chunk(config.accumulation), strict=True)
    )
    for number, micro_batch in enumerate(micro_batches, start=1):
        mine, wanted = (world.part(part) for part in micro_batch)
        with state.exchange(last=number == len(micro_batches)):
            loss, metrics = state.loss(mine, wanted, config, gate_only)
            # DDP takes the mean over ranks where the sum is wanted
            (loss * ((1 if gate_only else world.size) / num_labels)).backward()
        sums = {k: sums[k] + v for k, v in metrics.items()} if sums else metrics
    if gate_only:  # without DDP, which would wait for the frozen weights
        assert state.model.exit_gate is not None
        for parameter in state.model.exit_gate.parameters():
            assert parameter.grad is not None
            world.sum(parameter.grad)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.grad_clip or math.inf)
    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    return {**sums, "grad_norm": norm, "updates": torch.ones_like(norm)}
