"""A trained Llama from elsewhere, read into the same model class, tells its published story."""

from pathlib import Path

import pytest
import torch

from ostinato.inference.generate import Sampling, generate
from tests.models.llama2c import Llama2cTokenizer, load_llama2c

FOLDER = Path(__file__).parents[1] / "golden" / "llama2c"
STEPS = 256
"""Positions that llama2.c ran through when the text was made, the begin token included."""


def test_tells_the_published_story():
    model = load_llama2c(FOLDER / "stories260K.bin")
    tokenizer = Llama2cTokenizer(FOLDER / "tok512.bin")
    story = generate(model, "", tokenizer, Sampling(temperature=0.0), max_tokens=STEPS)
    assert "".join(map(str, story)) + "\n" == (FOLDER / "expected.txt").read_text()


def test_prompts_are_encoded_and_decoded():
    tokenizer = Llama2cTokenizer(FOLDER / "tok512.bin")
    for text in ("Once upon a time", "Zoë 🐈\n", "x"):
        tokens = tokenizer.encode(text)
        previous = [0, *tokens]
        parts = (tokenizer.token_bytes(t, p) for t, p in zip(tokens, previous, strict=False))
        assert b"".join(parts).decode() == text
    assert len(tokenizer.encode("Once upon a time")) < 8
    assert tokenizer.encode("") == [1]


@pytest.mark.parametrize("keep", [10, 1000, -4])
def test_truncated_files_are_refused(keep: int, tmp_path: Path):
    cut = tmp_path / "cut.bin"
    cut.write_bytes((FOLDER / "stories260K.bin").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.bin"):
        load_llama2c(cut)
    cut.write_bytes((FOLDER / "tok512.bin").read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        Llama2cTokenizer(cut)
    with pytest.raises(ValueError, match="cannot be read"):
        load_llama2c(tmp_path / "none.bin")


def test_the_rotary_tables_of_the_file_are_ours():
    from tests.models.llama2c import HEADER, tensor_shapes

    model = load_llama2c(FOLDER / "stories260K.bin")
    shapes = tensor_shapes(model.config)
    data = (FOLDER / "stories260K.bin").read_bytes()
    floats = torch.frombuffer(bytearray(data[HEADER.size :]), dtype=torch.float32)
    half = shapes["freqs_cos"][1]
    cos, sin = floats[-2 * model.config.seq_len * half :].view(2, -1, half)
    torch.testing.assert_close(model.rotary.cos[:, :half], cos, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.rotary.sin[:, :half], sin, rtol=0, atol=1e-4)
