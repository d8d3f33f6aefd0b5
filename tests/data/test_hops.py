"""Expressions: their values by Python, their sizes, and that nothing held out is trained on."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from ostinato.data.text import TokenSet, hops, load_texts
from ostinato.data.text.hops import DIGITS, HopData


def value(text: str) -> tuple[str, str]:
    """The infix form of an expression in front of `text`, and the rest."""
    if text[0] not in "+-*":
        return str(DIGITS.index(text[0])), text[1:]
    left, rest = value(text[1:])
    right, rest = value(rest)
    return f"({left} {text[0]} {right})", rest


def texts_of(data: HopData, root: Path) -> dict[str, list[str]]:
    folder = data.prepare(root, lambda line: None)
    splits = ("train", "validation", "test")
    return {s: [t.decode() for t in TokenSet.load(folder, s).texts()] for s in splits}


def test_answers_are_right_and_splits_are_apart(tmp_path: Path):
    data = HopData(num_train=3000, num_validation=60, num_test=120, modulus=11)
    texts = texts_of(data, tmp_path)
    counts = {split: set() for split in texts}
    for split, found in texts.items():
        for text in found:
            infix, rest = value(text)
            assert rest == f"={DIGITS[eval(infix) % 11]}", text
            counts[split].add(sum(text.count(sign) for sign in "+-*"))
    assert [len(found) for found in texts.values()] == [3000, 60, 120]
    few, many = set(range(1, 5)), set(range(1, 9))
    assert counts == {"train": few, "validation": few, "test": many}
    both = set(texts["train"]) & {*texts["validation"], *texts["test"]}
    assert {len(text) for text in both} == {len("+12=3")}, "tables are known, the rest is not"
    assert len({text[0] + text[1] for text in texts["train"]}) == 3 * (3 + 11), (
        "all shapes of trees"
    )
    assert texts_of(data, tmp_path / "again") == texts


def test_only_answers_are_scored(tmp_path: Path):
    data = HopData(num_train=300, num_validation=30, num_test=40)
    texts = load_texts(data.prepare(tmp_path, lambda line: None), "validation")
    whole = "".join(f" {text.decode()}" for text in texts.texts())
    answers = [a for sign, a in pairwise(whole) if sign == "="]
    found = [label for _, labels in texts.evaluation(16, 8, 4) for label in labels[labels >= 0]]
    assert texts.tokenizer.decode(map(int, found)) == "".join(answers)
    assert len(answers) == texts.num_scored == texts.scored_bytes == 30
    windows, labels = next(texts.batches(16, 2))
    assert torch.equal(labels >= 0, windows[:, :-1] == texts.tokenizer.encode("=")[1])
    assert torch.equal(windows[:, 1:][labels >= 0], labels[labels >= 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corpus": "python-stdlib"}, "draws its texts: leave out corpus"),
        ({"modulus": 37}, "modulus must lie in"),
        ({"num_test": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        HopData(**settings)


def test_too_few_expressions_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hops, "PATIENCE", 1)
    with pytest.raises(ValueError, match="too few expressions: give a larger one"):
        texts_of(HopData(), tmp_path)
