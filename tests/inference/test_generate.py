"""Generation against the model's own forward pass, and its text settings against brute force."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostinato.inference.generate import Piece, Writer, generate
from ostinato.inference.sampling import Sampler, Sampling, candidates
from ostinato.models.nanochat import NanoChat, NanoChatConfig

CONFIG = NanoChatConfig(
    vocab_size=257, seq_len=24, hidden_size=32, num_layers=2, num_heads=2, group_size=16
)
END = 256


class Bytes:
    """A token a byte."""

    end_tokens = frozenset({END})

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token: int, previous: int) -> bytes:
        return bytes([token])


class Scripted(NanoChat):
    """A model that says what it is told to."""

    def __init__(self, script: Sequence[int], **settings: Any):
        super().__init__(NanoChatConfig(**{**vars(CONFIG), **settings}))
        self.script, self.prompt_length = list(script), 0

    def forward(self, tokens: torch.Tensor, cache: Any = None) -> torch.Tensor:
        logits = super().forward(tokens, cache)
        self.prompt_length = self.prompt_length or tokens.shape[1]
        logits[:, -1, self.script[cache[0].length - self.prompt_length]] = 1000.0
        return logits

    def packed(self) -> "NanoChat":
        return self


def model(seed: int = 0) -> NanoChat:
    made = NanoChat(CONFIG, torch.Generator().manual_seed(seed))
    with torch.no_grad():  # logits with a clear winner
        made.embed_tokens.weight *= 40
    return made


def say(script: bytes | Sequence[int], **arguments: Any) -> list[Piece]:
    arguments = {"max_tokens": len(script)} | arguments
    return list(generate(Scripted(script, seq_len=200), "?", Bytes(), GREEDY, **arguments))


GREEDY = Sampling(temperature=0.0)


def text_of(pieces: list[Piece]) -> str:
    return "".join(map(str, pieces))


def test_greedy_is_the_argmax_of_the_whole_text_each_time():
    gpt = model()
    tokens = [7, 3]
    pieces = list(generate(gpt, tokens, Bytes(), GREEDY, max_tokens=12))
    for piece in pieces:
        with torch.no_grad():
            logits = gpt(torch.tensor([tokens]))[0, -1]
        assert piece.token == int(logits.argmax())
        assert piece.logprob == pytest.approx(logits.log_softmax(-1).max().item(), abs=1e-3)
        tokens.append(piece.token)
    assert [p.finish for p in pieces] == [""] * 11 + ["length"]


def test_the_context_is_filled_and_no_more():
    pieces = list(generate(model(), [1] * 20, Bytes(), Sampling(), max_tokens=100))
    assert len(pieces) <= 5
    assert pieces[-1].finish in ("length", "end")
    assert len(list(generate(Scripted([65] * 30), [1] * 24, Bytes(), GREEDY))) == 1


def test_a_seed_gives_the_same_text_and_another_seed_another():
    gpt = model().packed()

    def tokens(seed: int) -> list[int]:
        return [p.token for p in generate(gpt, "ab", Bytes(), Sampling(100.0, seed=seed))]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_the_caller_keeps_gradients_between_pieces():
    for _ in generate(model(), "a", Bytes(), max_tokens=2):
        assert torch.is_grad_enabled()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_characters_come_whole(text: str):
    writer = Writer(())
    parts = [writer.write(bytes([byte])) for byte in text.encode()]
    assert "".join(parts) + writer.close() == text
    assert "�" not in "".join(parts) or "�" in text


def test_characters_of_several_tokens_stream_through_generate():
    story = "Zoë 🐈 naïve"
    pieces = say(story.encode())
    assert text_of(pieces) == story
    assert [p.text for p in pieces if p.text] == list(story)
    assert text_of(say("🐈".encode()[:2])) == "�"
    assert text_of(say(b"a\xffb")) == "a�b"


def test_a_token_that_ends_texts_ends_it():
    pieces = say([*b"abc", END, *b"def"])
    assert (text_of(pieces), pieces[-1].finish) == ("abc", "end")


@given(
    text=st.text("abc", min_size=1, max_size=20),
    stop=st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
)
def test_text_ends_before_the_first_stop_string(text: str, stop: list[str]):
    pieces = []
    writer = Writer(stop)
    for byte in text.encode():
        pieces.append(writer.write(bytes([byte])))
        if writer.stopped:
            break
    else:
        pieces.append(writer.close())
    # The stop string that is complete first; of several, that which begins first
    end = min(
        (n for n in range(len(text) + 1) if any(text[:n].endswith(s) for s in stop)), default=-1
    )
    wanted = text if end < 0 else text[:end][: min(text[:end].find(s) % 99 for s in stop)]
    assert "".join(pieces) == wanted


def test_generate_reports_a_stop_string():
    pieces = say(b"one. two. three", stop=["two"])
    assert (text_of(pieces), pieces[-1].finish) == ("one. ", "stop")
    assert text_of(say(b"ends with tw", stop=["two"])) == "ends with tw"


@given(
    seed=st.integers(0, 1000),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 1.0),
)
def test_candidates_are_those_of_the_definitions(seed: int, top_k: int, top_p: float, min_p: float):
    logits = torch.randn(10, generator=torch.Generator().manual_seed(seed))
    tokens, weights = candidates(logits.numpy(), Sampling(top_k=top_k, top_p=top_p, min_p=min_p))
    got = dict(zip(tokens.tolist(), (weights / weights.sum()).tolist(), strict=True))
    p = logits.double().softmax(-1).tolist()
    ranked = sorted(range(10), key=lambda token: -p[token])[: top_k or 10]
    within, kept = sum(p[token] for token in ranked), []
    reached = 0.0
    for token in ranked:
        if reached < top_p - 1e-6 and p[token] >= min_p * p[ranked[0]] - 1e-9:
            kept.append(token)
        reached += p[token] / within
    assert sum(got.values()) == pytest.approx(1, abs=1e-5)
    assert set(got) == set(kept)
    for token in kept:
        assert got[token] == pytest.approx(p[token] / sum(p[t] for t in kept), abs=1e-5)


def test_equal_logits_leave_as_many_candidates_as_asked_for():
    tokens, _ = candidates(np.zeros(8, np.float32), Sampling(top_k=3))
    assert tokens.tolist() == [0, 1, 2]


def test_samples_follow_the_probabilities():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    for top_k in (0, 3):
        sampler = Sampler(Sampling(temperature=0.5, top_k=top_k), ())
        drawn = [sampler.draw(logits.numpy()) for _ in range(4000)]
        shares = torch.bincount(torch.tensor(drawn), minlength=4) / 4000
        assert (shares - (logits / 0.5).softmax(-1)).abs().max() < 0.03


def test_repetition_penalty_makes_seen_tokens_less_likely_whatever_their_sign():
    penalized = Sampling(temperature=0.0, repetition_penalty=2.0)

    def drawn(*logits: float) -> int:
        return Sampler(penalized, (0, 2)).draw(np.array(logits, np.float32))

    assert drawn(3.0, 2.0, 0.0, 1.0) == 1
    assert drawn(-2.0, -3.0, -2.0, -9.0) == 1
    assert drawn(-2.0, -5.0, -2.4, -9.0) == 0
    sampler = Sampler(penalized, (0,))
    logits = np.array([3.0, 2.0, 1.9, 1.0], np.float32)
    assert [sampler.draw(logits) for _ in range(3)] == [1, 2, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x" * 25}, "has 25 tokens, the model reads 24"),
        ({"prompt": [300]}, "token 300"),
        ({"prompt": [-1]}, "token -1"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop string"),
    ],
)
def test_bad_requests_are_refused_at_once(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        generate(model(), **{"prompt": "a", "tokenizer": Bytes()} | arguments)


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Sampling(**setting)
