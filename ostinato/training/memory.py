"""Check a lower bound on the memory of a training run before anything is allocated."""

import torch

from ostinato.training.config import AnyRecipe, PromptRecipe, TextRecipe, with_dtypes
from ostinato.weights.memory import check_memory, layers_of, model_bytes

COPIES = 3
"""Copies kept of each parameter: itself, its gradient, and a moment of the optimiser."""


def check_recipe(recipe: AnyRecipe, device: torch.device, processes: int = 1) -> None:
    """Raise ValueError if the model or a batch cannot fit in the memory of `device`.

    This is a lower bound: a run that passes may still be too large.
    """
    recipe = with_dtypes(recipe, device)
    parameters, buffers = model_bytes(recipe.model)
    weights, batch = COPIES * parameters + buffers, batch_bytes(recipe, processes)
    layers = ", ".join(f"--{name.replace('_', '-')}" for name in layers_of(recipe.model))
    remedy = (
        f"give a smaller --hidden-size or fewer {layers}"
        if weights > batch
        else "give a smaller --global-batch-size, or a larger --accumulation"
    )
    check_memory(weights + batch, device, remedy)


def batch_bytes(recipe: AnyRecipe, processes: int) -> int:
    """Return the bytes of a batch in one process, and of what the backward pass has to keep of it.

    That is at least the input of each layer.
    """
    config, training = recipe.model, recipe.training
    micro_batch = training.micro_batch_size(processes)
    if isinstance(recipe, PromptRecipe):
        samples = 1 if recipe.training.method == "supervised" else recipe.training.samples
        streams = recipe.model.num_layers * recipe.model.num_streams * config.hidden_size
        return micro_batch * samples * streams * config.dtype.itemsize  # of a single token
    if isinstance(recipe, TextRecipe):
        tokens = micro_batch * recipe.model.seq_len
        streams = recipe.model.num_layers * recipe.model.num_streams * config.hidden_size
        passes = recipe.model.num_loops * tokens
        kept = passes * (streams + recipe.model.vocab_size) * config.dtype.itemsize
        return kept + training.global_batch_size * (recipe.model.seq_len + 1) * 8
    latent = (recipe.model.prefix_len + config.seq_len) * config.hidden_size * config.dtype.itemsize
    slots = recipe.training.slot_turns * training.accumulation * micro_batch
    layers = sum(layers_of(config).values())
    return slots * (2 * latent + 2 * 4 * config.seq_len) + micro_batch * layers * latent
