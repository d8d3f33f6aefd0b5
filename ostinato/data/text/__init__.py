"""Text data: corpora and conversations as tokens on disk, and the order of training."""

from ostinato.data.text.conversation_set import ConversationSet, load_texts
from ostinato.data.text.conversations import ChatData
from ostinato.data.text.dataset import TextData
from ostinato.data.text.token_set import TokenSet

__all__ = ["ChatData", "ConversationSet", "TextData", "TokenSet", "load_texts"]
