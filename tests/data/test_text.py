"""Corpora become tokens: nothing lost, each document in one split, the same again every time."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ostinato.data.text import TextData, TokenSet
from ostinato.data.text.corpora import read_corpus
from ostinato.data.text.token_set import SPLITS, WindowOrder

DOCUMENTS = [f"document {n}:\r\n" + "größer " * (n + 1) + "✓" for n in range(20)]


def silent(line: str) -> None: ...


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "below").mkdir(parents=True)
    for number, text in enumerate(DOCUMENTS):
        place = folder / "below" if number % 2 else folder
        (place / f"{number}.txt").write_bytes(text.encode())
    (folder / "copy.txt").write_bytes(DOCUMENTS[3].encode())
    (folder / "empty.txt").write_bytes(b" \n")
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    (folder / ".hidden").write_bytes(b"hidden")
    return folder


def test_every_document_is_in_one_split_byte_for_byte(corpus: Path, tmp_path: Path):
    data = TextData(str(corpus), num_tokens=280, num_validation=3, num_test=4)
    said: list[str] = []
    folder = data.prepare(tmp_path, said.append)
    assert any("picture.png" in line for line in said) and any("2 documents" in s for s in said)
    found = {split: TokenSet.load(folder, split) for split in SPLITS}
    texts = {split: [text.decode() for text in tokens.texts()] for split, tokens in found.items()}
    assert [len(texts[split]) for split in SPLITS] == [13, 3, 4]
    assert sorted(text for part in texts.values() for text in part) == sorted(DOCUMENTS)
    for split, tokens in found.items():
        assert tokens.num_bytes == sum(len(text.encode()) for text in texts[split])
        assert tokens.bytes_of_tokens()[tokens.tokens.astype(np.int64)].sum() == tokens.num_bytes
        separator = tokens.tokenizer.separator
        assert (tokens.tokens == separator).sum() == len(texts[split]) + 1
        assert tokens.tokens[0] == tokens.tokens[-1] == separator
        names = (folder / f"{split}.names.txt").read_text().splitlines()
        assert [(corpus / name).read_bytes().decode() for name in names] == texts[split]

    other = replace(data, data_seed=1).prepare(tmp_path, silent)
    assert other != folder and TokenSet.load(other, "test").fingerprint != found["test"].fingerprint
    assert data.prepare(tmp_path, silent) == folder
    again = data.prepare(tmp_path / "elsewhere", silent)
    assert TokenSet.load(again, "train").fingerprint == found["train"].fingerprint
    (corpus / "0.txt").write_text("changed")
    assert data.prepare(tmp_path, silent) != folder


@pytest.mark.parametrize(("documents", "held_out"), [(3, 1), (42, 2), (900, 30)])
def test_what_is_held_out_depends_on_how_much_there_is(
    tmp_path: Path, documents: int, held_out: int
):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(documents):
        (folder / f"{number}.txt").write_text(f"text {number}")
    built = TextData(str(folder), num_tokens=260).prepare(tmp_path, silent)
    splits = json.loads((built / "text.json").read_text())["splits"]
    assert {split: facts["documents"] for split, facts in splits.items()} == {
        "train": documents - 2 * held_out,
        "validation": held_out,
        "test": held_out,
    }


def test_a_file_is_cut_at_separators(tmp_path: Path):
    file = tmp_path / "stories.txt"
    file.write_bytes(b"one\n<|endoftext|>\ntwo\r\nlines\n<|endoftext|>\n\n<|endoftext|>three")
    assert read_corpus(str(file), "<|endoftext|>", silent).documents == [
        "one",
        "two\r\nlines",
        "three",
    ]
    assert len(read_corpus(str(file), "", silent).documents) == 1
    with pytest.raises(ValueError, match="too few documents, 3,"):
        TextData(str(file), num_tokens=260, num_validation=2, num_test=1).prepare(tmp_path, silent)
    with pytest.raises(ValueError, match="no corpus"):
        TextData(str(tmp_path / "none")).prepare(tmp_path, silent)
    file.write_bytes(b"one\n\ntwo\n\nthree")
    TextData(str(file), r"\n\n", num_tokens=260).prepare(tmp_path, silent)


def test_the_standard_library_is_a_corpus():
    corpus = read_corpus("python-stdlib", "", silent)
    assert corpus.names == sorted(corpus.names) and "argparse.py" in corpus.names
    assert not any("site-packages" in name or "/test" in name for name in corpus.names)
    assert corpus.documents[corpus.names.index("this.py")].startswith('s = """Gur Mra')


def test_a_damaged_split_is_refused(corpus: Path, tmp_path: Path):
    folder = TextData(str(corpus), num_tokens=280, num_test=2, num_validation=2).prepare(
        tmp_path, silent
    )
    path = folder / "train.tokens"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="missing or damaged"):
        TokenSet.load(folder, "train")
    (folder / "text.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="holds no test split"):
        TokenSet.load(folder, "test")


@pytest.mark.parametrize("name", ["train.tokens", "train.documents.npy", "tokenizer.json"])
def test_texts_that_were_overwritten_are_refused(name: str, corpus: Path, tmp_path: Path):
    folder = TextData(str(corpus), num_tokens=280, num_test=2, num_validation=2).prepare(
        tmp_path, silent
    )
    path = folder / name
    if name == "tokenizer.json":
        path.write_text(path.read_text("utf-8") + " ", "utf-8")
    else:
        content = bytearray(path.read_bytes())
        content[-8] ^= 1
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train texts in .* changed: remove .* to build it"):
        TokenSet.load(folder, "train")


def test_an_older_data_set_without_the_hash_of_its_tokenizer_loads(corpus: Path, tmp_path: Path):
    folder = TextData(str(corpus), num_tokens=280, num_test=2, num_validation=2).prepare(
        tmp_path, silent
    )
    facts = json.loads((folder / "text.json").read_text())
    del facts["tokenizer_sha256"]
    (folder / "text.json").write_text(json.dumps(facts))
    assert len(TokenSet.load(folder, "train").documents) == 16


@pytest.mark.parametrize("start", [0, 1, 7, 8, 40])
def test_windows_cover_each_epoch_and_are_entered_anywhere(start: int):
    order = WindowOrder(num_tokens=100, length=10, seed=3)
    assert order.per_epoch == 8
    whole = np.concatenate([order.epoch(number) for number in range(20)])
    batches = order.batches(3, start)
    taken = np.concatenate([next(batches) for _ in range(10)])
    assert (taken == whole[start : start + 30]).all()
    for number in range(20):
        epoch = np.sort(order.epoch(number))
        assert (np.diff(epoch) == 10).all() and epoch[0] >= 0 and epoch[-1] + 10 < 100


def test_the_end_of_a_single_document_is_held_out(tmp_path: Path):
    text = "".join(f"line {n}\n" for n in range(500))
    (tmp_path / "book.txt").write_text(text)
    folder = TextData(str(tmp_path / "book.txt"), num_tokens=280).prepare(tmp_path, silent)
    parts = [b"".join(TokenSet.load(folder, split).texts()).decode() for split in SPLITS]
    assert "".join(parts) == text and all(part.endswith("\n") for part in parts)
    assert [round(len(part) / len(text), 2) for part in parts] == [0.9, 0.05, 0.05]
    (tmp_path / "book.txt").write_text("ab")
    with pytest.raises(ValueError, match="too short to hold out its end"):
        TextData(str(tmp_path / "book.txt"), num_tokens=280).prepare(tmp_path, silent)


def test_each_line_of_a_jsonl_file_is_a_document(tmp_path: Path):
    texts = ["one\ntwo", "größer", "<|endoftext|> in a text"]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"body": text, "n": 1}) + "\n" for text in texts))
    corpus = read_corpus(str(file), "<|endoftext|>", silent, "body")
    assert corpus.documents == texts and corpus.names[1] == "texts.jsonl:1"
    built = TextData(str(file), text_field="body", num_tokens=280).prepare(tmp_path, silent)
    assert TokenSet.load(built, "train").num_bytes > 0
    with pytest.raises(ValueError, match=r"line 1 has no text in 'text': choose from body, n"):
        TextData(str(file)).prepare(tmp_path, silent)
    file.write_text('{"text": "a"}\n{"text"')
    with pytest.raises(ValueError, match=r"texts\.jsonl, line 2 cannot be read"):
        TextData(str(file)).prepare(tmp_path, silent)


def test_settings_that_older_data_sets_lack_do_not_rename_them(corpus: Path, tmp_path: Path):
    """A run of an older version has to find the data that it was trained on."""
    older = TextData(str(corpus), num_tokens=280, turn_tokens=False)
    folder = older.prepare(tmp_path, silent)
    facts = json.loads((folder / "text.json").read_text())
    assert "turn_tokens" not in facts and "text_field" not in facts
    assert TokenSet.load(folder, "train").tokenizer.turn_start is None
    assert TextData().turn_tokens
    newer = replace(older, turn_tokens=True).prepare(tmp_path, silent)
    assert newer != folder and TokenSet.load(newer, "train").tokenizer.turn_start is not None
