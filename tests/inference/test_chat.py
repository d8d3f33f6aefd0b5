"""A dialogue: what the model is given to read, and what it forgets."""

import pytest
import torch

from ostinato.data.text.template import CHATML, Message, prompt_tokens
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.inference.chat import Dialogue, fitting, plain_tokens
from ostinato.inference.generate import Sampling, generate
from ostinato.models.nanochat import NanoChat, NanoChatConfig

TOKENIZER = BytePairTokenizer.train(["User: hello\nAssistant: hi\n"], 257)
"""A token a byte."""
CHATTY = TOKENIZER.with_turns()


def model_reading(seq_len: int, chat_template: str = "") -> NanoChat:
    config = NanoChatConfig(
        vocab_size=259 if chat_template else 257,
        seq_len=seq_len,
        hidden_size=32,
        num_layers=1,
        num_heads=2,
        group_size=16,
    )
    model = NanoChat(config, torch.Generator().manual_seed(0)).eval()
    model.chat_template = chat_template
    return model


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def test_an_answer_continues_the_whole_dialogue():
    model = model_reading(200)
    dialogue = Dialogue(model, TOKENIZER, Sampling(seed=5), max_tokens=4)
    first = "".join(piece.text for piece in dialogue.ask("a b "))
    assert dialogue.messages == [user("a b"), assistant(first.strip())]
    text = f"User: a b\nAssistant: {first.strip()}\nUser: c\nAssistant:"
    second = "".join(piece.text for piece in dialogue.ask("c"))
    stop = ["\nUser:", "\nAssistant:"]
    wanted = generate(model, text, TOKENIZER, Sampling(seed=6), 4, stop)
    assert second == "".join(piece.text for piece in wanted)
    dialogue.reset()
    assert dialogue.messages == []
    with pytest.raises(ValueError, match="takes no system message: tune it"):
        dialogue.reset("Be kind.")


def test_a_tuned_model_reads_its_template():
    model = model_reading(300, CHATML)
    dialogue = Dialogue(model, CHATTY, Sampling(seed=5), max_tokens=4)
    dialogue.reset("Be kind.")
    answers = ["".join(piece.text for piece in dialogue.ask(text)) for text in ("a", "b")]
    before = [Message("system", "Be kind."), user("a"), assistant(answers[0].strip()), user("b")]
    wanted = generate(model, prompt_tokens(CHATTY, before), CHATTY, Sampling(seed=6), 4)
    assert answers[1] == "".join(piece.text for piece in wanted)
    assert dialogue.messages == [*before, assistant(answers[1].strip())]
    model.chat_template = "[INST]"
    with pytest.raises(ValueError, match="template is not the ChatML"):
        Dialogue(model, CHATTY, Sampling())


def test_an_answer_that_is_stopped_joins_as_far_as_it_came():
    dialogue = Dialogue(model_reading(200), TOKENIZER, Sampling(temperature=0.0))
    pieces = dialogue.ask("a")
    said = next(pieces).text + next(pieces).text
    pieces.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert dialogue.messages == [user("a"), assistant(said.strip())]


def test_the_oldest_turns_are_forgotten():
    model = model_reading(60)
    turns = [user("one"), assistant("1"), user("two"), assistant("2"), user("three")]
    tokens, kept = fitting(model, TOKENIZER, turns)
    assert kept == turns[4:]
    assert TOKENIZER.decode(tokens) == "User: three\nAssistant:"
    tokens, kept = fitting(model_reading(100), TOKENIZER, turns)
    assert kept == turns[2:]
    assert len(tokens) <= 50
    with pytest.raises(ValueError, match="30 of these are for the question: shorten it"):
        fitting(model, TOKENIZER, [user("x" * 30)])
    system = Message("system", "s")
    tokens, kept = fitting(model_reading(100, CHATML), CHATTY, [system, *turns], prompt_tokens)
    assert kept == [system, turns[4]] and tokens == prompt_tokens(CHATTY, kept)


def test_an_empty_question_is_refused():
    with pytest.raises(ValueError, match="the question is empty"):
        Dialogue(model_reading(60), TOKENIZER, Sampling()).ask(" ")
    assert TOKENIZER.decode(plain_tokens(TOKENIZER, [])) == "Assistant:"
