"""Train language models on prompts: by the rewards of their samples, or on right answers."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ostinato.data.prompts import Prompt, PromptSet
from ostinato.data.text.words import AnyTokenizer, WordTokenizer, load_tokenizer
from ostinato.evaluation.prompts import Judged, Sampler, evaluate
from ostinato.files import write_json
from ostinato.inference.generate import tokenizer_of
from ostinato.training.config import PromptRecipe
from ostinato.training.distributed import World
from ostinato.training.loop import Loop, Outcome, Work
from ostinato.training.policy import Weighted, advantages
from ostinato.training.prompt_state import PromptState
from ostinato.training.run_folder import RunFolder
from ostinato.weights.load import read_pretrained
from ostinato.weights.save import save_weights

TRAINING, HELD_OUT = 0, 1
"""Purposes that random numbers are drawn for."""
SHOWN = 3
"""Samples that are shown after a validation."""


def prepare(
    recipe: PromptRecipe, folder: RunFolder, root: Path, report: Callable[[str], None]
) -> Path:
    """Build the recipe's prompts below `root`."""
    return recipe.data.prepare(root, report)


def load_split(data: Path, split: str) -> PromptSet:
    """Return a split of the prompts in the folder `data`."""
    return PromptSet.load(data, split)


def check_fits(recipe: PromptRecipe, prompts: PromptSet, data: Path) -> None:
    """Raise ValueError if a new model has fewer tokens than the prompts, no answer is known, or
    compiling is asked for: rollouts come in too many shapes.
    """
    if recipe.training.compile:
        raise ValueError("training on prompts is not compiled: leave out --compile")
    wanted, given = prompts.tokenizer.vocab_size, recipe.model.vocab_size
    if not recipe.training.init_from and given != wanted:
        raise ValueError(
            f"{data} has vocab_size {wanted}, the model {given}: use --vocab-size {wanted}"
        )
    if recipe.training.method == "supervised" and not all(p.answer for p in prompts.prompts):
        raise ValueError(f"{data} has prompts without answers: train by rewards, --method maxrl")


def describe(recipe: PromptRecipe, train_set: PromptSet, validation_set: PromptSet) -> str:
    """Return a description of the training that is about to start."""
    config = recipe.training
    samples = "" if config.method == "supervised" else f" × {config.samples} samples"
    return (
        f"{len(train_set):,} training and {len(validation_set):,} validation prompts, "
        f"{config.total_steps:,} steps of {config.global_batch_size:,} prompts{samples} by "
        f"{config.method}"
    )


def train(
    recipe: PromptRecipe,
    folder: RunFolder,
    train_set: PromptSet,
    validation_set: PromptSet,
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
    state = PromptState.start(recipe, device, world, resumed=checkpoint is not None)
    if checkpoint is not None:
        state.restore(checkpoint)
    if checkpoint is not None and folder.tokenizer.exists():
        tokenizer = load_tokenizer(folder.tokenizer)
    elif recipe.training.init_from:
        state.model.tokenizer_json = read_pretrained(recipe.training.init_from).tokenizer
        tokenizer = tokenizer_of(state.model)
    else:
        tokenizer = train_set.tokenizer
    state.model.tokenizer_json = tokenizer.to_json()
    if world.is_main:
        tokenizer.save(folder.tokenizer)
    work = PromptWork(recipe, folder, train_set, validation_set, tokenizer, state)
    return loop.run(work, checkpoint)


class PromptWork(Work):
    """The part of the training loop that is specific to prompts."""

    unit = "samples"
    shown = ("train/reward", "train/loss", "validation/pass@1", "validation/pass@16")

    def __init__(
        self,
        recipe: PromptRecipe,
        folder: RunFolder,
        train_set: PromptSet,
        validation_set: PromptSet,
        tokenizer: AnyTokenizer,
        state: PromptState,
    ):
        config = recipe.training
        self.recipe, self.folder, self.tokenizer = recipe, folder, tokenizer
        self.state: PromptState = state
        self.supervised = config.method == "supervised"
        self.units_per_step = config.global_batch_size * (1 if self.supervised else config.samples)
        self.sampler = Sampler(state.model, recipe.data.task, tokenizer, config.max_new_tokens)
        self.device = state.model.embed_tokens.weight.device
        self.train_set = train_set.up_to(recipe.model.seq_len, self.tokens_read)
        self.validation_set = validation_set.up_to(recipe.model.seq_len, self.sampler.length)
        self.left_out = len(train_set) + len(validation_set)
        self.left_out -= len(self.train_set) + len(self.validation_set)

    def tokens_read(self, prompt: Prompt) -> int:
        """Return how many tokens are read to train on a prompt."""
        answer = answer_tokens(self.tokenizer, prompt.answer) if self.supervised else [0]
        return self.sampler.length(prompt) + len(answer) - 1

    def remarks(self) -> list[str]:
        if not self.left_out:
            return []
        limit = self.recipe.model.seq_len
        return [
            f"left out {self.left_out:,} prompts with more than the {limit:,} tokens of --seq-len"
        ]

    def update(self, time_used: float) -> dict[str, Tensor]:
        config, state = self.recipe.training, self.state
        state.set_learning_rate(config.schedule(state.step + 1, time_used))
        numbers = self.train_set.batch(state.step, config.global_batch_size, config.seed)
        places = torch.arange(len(numbers))
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        chunks = places.chunk(config.accumulation)
        for number, chunk in enumerate(chunks, start=1):
            mine = state.world.part(chunk).tolist()
            prompts = [self.train_set.prompts[numbers[place]] for place in mine]
            groups = self.answers(prompts) if self.supervised else self.draw(prompts, mine, sums)
            with state.exchange(last=number == len(chunks)):
                # DDP takes the mean over ranks where the sum is wanted
                loss = state.wrapped(groups) * (state.world.size / len(numbers))
                loss.backward()
            sums["loss"] += loss.detach().cpu().double()
        parameters = state.model.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip or math.inf)
        if norm != 0:  # else no prompt tells anything, and momentum alone would move the weights
            for optimizer in state.optimizers:
                optimizer.step()
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        state.step += 1
        sums["grad_norm"] += norm.cpu().double()
        sums["updates"] += 1
        return dict(sums)

    def draw(
        self, prompts: list[Prompt], places: list[int], sums: dict[str, Tensor]
    ) -> list[Weighted]:
        """Draw completions, count what they earn in `sums`, and weigh them by their advantages."""
        config, start = self.recipe.training, time.monotonic()
        key = (config.seed, TRAINING, self.state.step)
        groups = []
        assert config.method != "supervised"
        for judged in self.sampler.draw(prompts, places, config.samples, key):
            self.count(judged, sums)
            weights = advantages(judged.rewards, config.method) / config.samples
            rollout = judged.rollout
            group = Weighted(judged.prompts, rollout.tokens, rollout.written, weights)
            groups.append(group.without_idle_prompts())
        sums["seconds"] += time.monotonic() - start
        return groups

    def count(self, judged: Judged, sums: dict[str, Tensor]) -> None:
        """Add what is logged of completions to `sums`."""
        share = judged.rewards.cpu().double().mean(1)
        sums["prompts"] += len(share)
        sums["reward"] += share.sum()
        sums["none_right"] += (share == 0).sum()
        sums["all_right"] += (share == 1).sum()
        sums["samples"] += judged.rewards.numel()
        sums["finished"] += judged.rollout.finished.sum().cpu()
        sums["tokens"] += judged.rollout.written.sum().cpu()
        sums["entropy"] += judged.rollout.entropy.sum().cpu()

    def answers(self, prompts: list[Prompt]) -> list[Weighted]:
        """Return the right answers of prompts, each with weight 1."""
        groups = defaultdict(list)
        for prompt in prompts:
            groups[len(tokens := self.tokenizer.encode(prompt.text))].append(
                (tokens, answer_tokens(self.tokenizer, prompt.answer))
            )
        found = []
        for members in groups.values():
            new = max(len(answer) for _, answer in members)
            rows = torch.tensor([answer + [0] * (new - len(answer)) for _, answer in members])
            lengths = torch.tensor([len(answer) for _, answer in members])
            written = torch.arange(new) < lengths[:, None]
            found.append(
                Weighted(
                    torch.tensor([tokens for tokens, _ in members], device=self.device),
                    rows[:, None].to(self.device),
                    written[:, None].to(self.device),
                    torch.ones(len(members), 1, device=self.device),
                )
            )
        return found

    def means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        world = self.state.world
        names = sorted(sums)
        total = world.sum(torch.stack([sums[name] for name in names])).tolist()
        values = dict(zip(names, total, strict=True))
        updates = values["updates"]
        found = {
            # Each rank has multiplied its part by the number of ranks
            "train/loss": values["loss"] / updates,
            "grad_norm": values["grad_norm"] / updates,
            "lr": self.state.optimizers[-1].param_groups[0]["lr"],
        }
        if self.supervised:
            return found
        for name in ("reward", "none_right", "all_right"):
            found[f"train/{name}"] = values[name] / values["prompts"]
        return found | {
            "train/finished": values["finished"] / values["samples"],
            "train/length": values["tokens"] / values["samples"],
            "train/entropy": values["entropy"] / values["tokens"],
            "tokens_per_second": world.size * values["tokens"] / values["seconds"],
        }

    def validate(self) -> dict[str, float]:
        state, config, world = self.state, self.recipe.training, self.state.world
        state.model.eval()
        scores = evaluate(
            self.sampler,
            self.validation_set.prompts,
            config.eval_samples,
            config.eval_batch_size,
            (config.seed, HELD_OUT),
            rank=world.rank,
            world_size=world.size,
            sum_over_ranks=world.sum,
        )
        state.model.train()
        if world.is_main and scores["pass@1"] > state.best:
            score = {name: value for name, value in scores.items() if name != "seconds"}
            notes = {"recipe": self.recipe.name, "step": state.step, "validation": score}
            save_weights(self.folder.model, state.model, **notes)
            place = {"model": str(self.folder.path), "split": "validation"}
            write_json(self.folder.result, {**place, "device": str(self.device), **notes, **scores})
        state.best = max(state.best, scores["pass@1"])
        names = ("none_right", "all_right", "length")
        chosen = [name for name in scores if name.startswith("pass@") or name in names]
        return {f"validation/{name}": scores[name] for name in chosen}

    def samples(self) -> list[str]:
        """Return a completion of the first held-out prompts, for people to read."""
        prompts, key = self.validation_set.prompts[:SHOWN], (self.recipe.training.seed, HELD_OUT)
        lines = []
        for judged in self.sampler.draw(prompts, list(range(len(prompts))), 1, key):
            for place, text, reward in zip(
                judged.places, judged.texts, judged.rewards, strict=True
            ):
                verdict = "right" if reward else "wrong"
                lines.append(f"sample {place + 1}, {verdict}: {text}")
        return lines

    def tree(self) -> dict[str, Any]:
        return {**self.state.tree(), "data": self.train_set.fingerprint}

    def best_in_words(self) -> str:
        return f"pass@1 {self.state.best:.1%} on validation at best"


def answer_tokens(tokenizer: AnyTokenizer, answer: str) -> list[int]:
    """Return the tokens of an answer, the one that ends it included."""
    tokens = tokenizer.encode(answer)
    if isinstance(tokenizer, WordTokenizer):
        return tokens
    return [*tokens[1:], tokenizer.separator]  # a separator stands before each document too
