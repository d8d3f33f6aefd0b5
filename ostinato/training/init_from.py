"""Training that starts from trained weights: fine-tuning, and new puzzles for a frozen network.

A new puzzle is learnt by a row of the puzzle embedding. With `freeze="weights"` nothing else is
trained, as in the originals' `freeze_weights`; without it everything goes on learning.
"""

from ostinato.models import RecursiveModel
from ostinato.training.config import TrainingConfig
from ostinato.weights.load import load_pretrained, read_pretrained


def start_from(model: RecursiveModel, config: TrainingConfig) -> None:
    """Give `model` the weights of `config.init_from`, and its puzzle rows or their mean.

    The model keeps its own settings, such as cycles and dtype. Raises ValueError, with the remedy,
    if the file cannot be read, or if a tensor is missing, extra or mis-shaped.
    """
    load_pretrained(model, read_pretrained(config.init_from), config.puzzle_embeddings)


def freeze_weights(model: RecursiveModel) -> None:
    """Leave nothing but the puzzle rows to train. ValueError if there are none."""
    if model.puzzle_emb is None:
        raise ValueError("frozen weights need puzzle rows to train: set puzzle_emb_ndim above 0")
    model.requires_grad_(False)
