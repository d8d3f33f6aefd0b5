"""Bits per byte, copies and what other means need, against counting by hand."""

import lzma
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from ostinato.data.text import TextData, TokenSet
from ostinato.evaluation.text import ByteTrigram, evaluate, xz_bits_per_byte
from ostinato.models import NanoChat, NanoChatConfig


@pytest.fixture
def texts(tmp_path: Path) -> TokenSet:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"größer {number} " * (3 + number))
    data = TextData(str(tmp_path), num_tokens=270, num_validation=2, num_test=2)
    return TokenSet.load(data.prepare(tmp_path / "data", lambda line: None), "validation")


@pytest.mark.parametrize(("context", "batch_size"), [(0, 3), (5, 1), (7, 100)])
def test_every_token_counts_once(texts: TokenSet, context: int, batch_size: int):
    config = NanoChatConfig(
        vocab_size=280, seq_len=8, hidden_size=16, num_layers=1, num_heads=2, group_size=16
    )
    model = NanoChat(config, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(model.embed_tokens.weight, generator=torch.Generator().manual_seed(1))
    tokens, stride = torch.tensor(texts.tokens.astype("int64")), 8 - context
    nats, right, copied, repeated = 0.0, 0, 0, 0
    for place in range(1, len(tokens)):
        first = (place - 1) // stride * stride
        begin = max(0, first - context)
        logits = model(tokens[None, begin:place])[0, -1].detach().double()
        nats -= logits.log_softmax(-1)[tokens[place]].item()
        right += int(logits.argmax() == tokens[place])
        copied += int(logits.argmax() == tokens[place - 1])
        repeated += int(tokens[place] == tokens[place - 1])
    result = evaluate(model, texts, batch_size, context)
    count = len(tokens) - 1
    assert result.tokens == count and result.documents == 2
    assert result.bytes == sum(len(text) for text in texts.texts())
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / result.bytes, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert result.accuracy == pytest.approx(right / count)
    assert result.copy_rate == pytest.approx(copied / count) and copied
    assert result.repeat_rate == pytest.approx(repeated / count)


def test_shares_of_ranks_add_up(texts: TokenSet):
    config = NanoChatConfig(
        vocab_size=280, seq_len=8, hidden_size=16, num_layers=1, num_heads=2, group_size=16
    )
    model, parts = NanoChat(config, torch.Generator().manual_seed(0)), []
    for rank in range(2):
        evaluate(
            model,
            texts,
            2,
            rank=rank,
            world_size=2,
            sum_over_ranks=lambda t: (parts.append(t), t)[1],
        )
    whole = evaluate(model, texts, 2)
    nats = sum(part[0].item() for part in parts)
    assert nats / math.log(2) / whole.bytes == pytest.approx(whole.bits_per_byte, rel=1e-6)


def test_a_trigram_by_hand():
    training, held_out = [b"abcab", b"abd"], b"abz"
    levels = [Counter(), Counter(), Counter()]
    for text in training:
        padded = b"\0\0" + text + b"\0"
        for place in range(2, len(padded)):
            for order in range(3):
                levels[order][padded[place - order : place], padded[place]] += 1

    def probability(history: bytes, byte: int) -> float:
        shorter = probability(history[1:], byte) if history else 1 / 256
        seen = {b: n for (h, b), n in levels[len(history)].items() if h == history}
        if not seen:
            return shorter
        return (seen.get(byte, 0) + len(seen) * shorter) / (sum(seen.values()) + len(seen))

    padded = b"\0\0" + held_out + b"\0"
    bits = -sum(math.log2(probability(padded[p - 2 : p], padded[p])) for p in range(2, 6))
    assert ByteTrigram(training).bits_per_byte([held_out]) == pytest.approx(bits / 3)
    total = sum(probability(b"ab", byte) for byte in range(256))
    # A history that holds but one byte less is left out above, where its share is 0
    assert total == pytest.approx(1)


def test_xz_is_of_all_documents_in_one_stream():
    documents = [b"so be it " * 50, b"so it is " * 50]
    size = len(lzma.compress(documents[0] + documents[1], preset=9 | lzma.PRESET_EXTREME))
    assert xz_bits_per_byte(documents) == 8 * size / 900
