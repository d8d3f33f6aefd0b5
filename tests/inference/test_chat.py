"""A dialogue: what the model is given to read, and what it forgets."""

import pytest
import torch

from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.inference.chat import Dialogue, Turn, fitting
from ostinato.inference.generate import Sampling, generate
from ostinato.models.nanochat import NanoChat, NanoChatConfig

TOKENIZER = BytePairTokenizer.train(["User: hello\nAssistant: hi\n"], 257)
"""A token a byte."""


def model_reading(seq_len: int) -> NanoChat:
    config = NanoChatConfig(
        vocab_size=257, seq_len=seq_len, hidden_size=32, num_layers=1, num_heads=2, group_size=16
    )
    return NanoChat(config, torch.Generator().manual_seed(0)).eval()


def test_an_answer_continues_the_whole_dialogue():
    model = model_reading(200)
    dialogue = Dialogue(model, TOKENIZER, Sampling(seed=5), max_tokens=4)
    first = "".join(piece.text for piece in dialogue.ask("a b "))
    assert dialogue.turns == [Turn("a b", first.strip())]
    text = f"User: a b\nAssistant: {first.strip()}\nUser: c\nAssistant:"
    second = "".join(piece.text for piece in dialogue.ask("c"))
    stop = ["\nUser:", "\nAssistant:"]
    wanted = generate(model, text, TOKENIZER, Sampling(seed=6), 4, stop)
    assert second == "".join(piece.text for piece in wanted)
    dialogue.reset()
    assert dialogue.turns == []


def test_the_oldest_turns_are_forgotten():
    model = model_reading(60)
    turns = [Turn("one", "1"), Turn("two", "2"), Turn("three")]
    tokens, kept = fitting(model, TOKENIZER, turns)
    assert kept == turns[2:]
    assert TOKENIZER.decode(tokens) == "User: three\nAssistant:"
    tokens, kept = fitting(model_reading(100), TOKENIZER, turns)
    assert kept == turns[1:]
    assert len(tokens) <= 50
    with pytest.raises(ValueError, match="30 of these are for the question: shorten it"):
        fitting(model, TOKENIZER, [Turn("x" * 30)])


def test_an_empty_question_is_refused():
    with pytest.raises(ValueError, match="the question is empty"):
        Dialogue(model_reading(60), TOKENIZER, Sampling()).ask(" ")
