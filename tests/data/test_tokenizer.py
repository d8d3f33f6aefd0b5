"""Texts come back from their tokens, byte for byte, and the merges are those of a plain BPE."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.text.tokenizer import SEPARATOR, BytePairTokenizer
from ostinato.inference.generate import Tokenizer

TEXTS = ["low lower lowest", "def low(new):\n    return new\n", "größer, größer, größte – ✓ 🎈"]
TRAINED = BytePairTokenizer.train(TEXTS, 290)


def test_it_is_what_generation_asks_for():
    assert isinstance(TRAINED, Tokenizer)
    assert TRAINED.end_tokens == {TRAINED.separator}


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([SEPARATOR, *TEXTS]))
def test_texts_come_back(text: str):
    separator, *tokens = TRAINED.encode(text)
    assert separator == TRAINED.separator and separator not in tokens
    assert list(TRAINED.encode_all([text, text])) == [tokens, tokens]
    pieces = [TRAINED.token_bytes(token, before) for before, token in pairwise([0, *tokens])]
    assert b"".join(pieces) == text.encode()
    assert TRAINED.decode([separator, *tokens]) == text


def test_merges_are_the_most_frequent_pairs():
    """On words of one letter each side, against counting by hand."""
    words = ["aab", "aab", "aac", "xab", "xab", "xab", "qaab"]
    merges = json.loads(BytePairTokenizer.train(words, 261).to_json())["model"]["merges"]
    pieces = {word: list(word) for word in words}
    expected = []
    for _ in range(4):
        pairs = Counter(pair for word in words for pair in pairwise(pieces[word]))
        best = max(pairs.values())
        expected.append({pair for pair, count in pairs.items() if count == best})
        chosen = tuple(merges[len(expected) - 1])
        assert chosen in expected[-1]
        for word, parts in pieces.items():
            pieces[word] = merged(parts, chosen)


def merged(parts: list[str], pair: tuple[str, ...]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def test_training_is_deterministic_and_survives_a_file(tmp_path: Path):
    again = BytePairTokenizer.train(TEXTS, 290)
    assert again.to_json() == TRAINED.to_json()
    TRAINED.save(tmp_path / "tokenizer.json")
    loaded = BytePairTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.to_json() == TRAINED.to_json()
    assert loaded.encode(SEPARATOR + TEXTS[2]) == TRAINED.encode(SEPARATOR + TEXTS[2])


def test_it_has_as_many_tokens_as_asked_for_or_as_the_texts_allow():
    assert TRAINED.vocab_size == 290
    assert BytePairTokenizer.train(["ab"], 4096).vocab_size == 258
    with pytest.raises(ValueError, match="vocab_size 256 is too small"):
        BytePairTokenizer.train(TEXTS, 256)


def test_what_is_no_byte_level_bpe_is_refused(tmp_path: Path):
    file = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read"):
        BytePairTokenizer.load(file)
    file.write_text(TRAINED.to_json()[:-50])
    with pytest.raises(ValueError, match=r"tokenizer\.json: no tokenizer, or a damaged one"):
        BytePairTokenizer.load(file)
    content = json.loads(TRAINED.to_json())
    for change in ({"pre_tokenizer": {"type": "Whitespace"}}, {"added_tokens": []}):
        broken = {**content, **change}
        if not broken["added_tokens"]:
            del broken["model"]["vocab"][SEPARATOR]
        file.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match="no byte-level BPE with the token"):
            BytePairTokenizer.load(file)
