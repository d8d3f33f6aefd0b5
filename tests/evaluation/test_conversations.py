"""Scores of answers, where it is known what the model says."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostinato.data.text import ChatData, ConversationSet, load_texts
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.evaluation import conversations
from ostinato.evaluation.conversations import score_answers
from ostinato.inference.generate import Piece
from ostinato.models import NanoChat, NanoChatConfig


def test_answers_are_counted_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tokenizer = BytePairTokenizer.train([], 259, turns=True)
    messages = [
        {"role": "user", "content": "Is it?"},
        {"role": "assistant", "content": "Yes, it is."},
    ]
    file = tmp_path / "talks.jsonl"
    file.write_text(6 * f"{json.dumps({'messages': messages})}\n")
    data = ChatData(str(file), num_validation=4, num_test=1)
    folder = data.prepare(tmp_path, lambda line: None, tokenizer, 64)
    texts = load_texts(folder, "validation")
    assert isinstance(texts, ConversationSet)
    start, end = tokenizer.turn_start, tokenizer.turn_end
    said = iter(
        [
            [*tokenizer.encode("Yes, it is.")[1:], end],
            [*tokenizer.encode("yes  it is")[1:], end],
            tokenizer.encode("Yes, it is.")[1:],  # cut off
            [*tokenizer.encode("No")[1:], start, end],
        ]
    )

    def written(*arguments: object) -> Iterator[Piece]:
        for token in next(said):
            yield Piece(tokenizer.decode([token]), token, 0.0)

    monkeypatch.setattr(conversations, "generate", written)
    config = NanoChatConfig(vocab_size=259, seq_len=64, hidden_size=32, num_heads=2, group_size=16)
    found = score_answers(NanoChat(config), texts)
    assert (found.conversations, found.exact, found.normalised) == (4, 2 / 4, 3 / 4)
    assert (found.ended, found.clean) == (3 / 4, 3 / 4)
