"""Text data: corpora, their documents as tokens on disk, and the order of training."""

from ostinato.data.text.dataset import TextData
from ostinato.data.text.token_set import TokenSet

__all__ = ["TextData", "TokenSet"]
