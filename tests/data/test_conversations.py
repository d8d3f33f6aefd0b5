"""Conversations become tokens by ChatML: who speaks is never in doubt, and only answers count."""

import json
from itertools import islice
from pathlib import Path

import jinja2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ostinato.data.text import ChatData, ConversationSet, load_texts
from ostinato.data.text.conversation_set import best_fit
from ostinato.data.text.conversations import read_chatterbot, read_conversations
from ostinato.data.text.dialogues import TOPICS, dialogues
from ostinato.data.text.template import CHATML, Message, answers, prompt_tokens
from ostinato.data.text.tokenizer import SEPARATOR, TURN_END, TURN_START, BytePairTokenizer

OLD = BytePairTokenizer.train(["user assistant system hello, what is it?\n"] * 3, 290)
RESERVED = BytePairTokenizer.train(["user assistant system hello, what is it?\n"] * 3, 290, True)
TALK = [Message("system", "Be kind."), Message("user", "größer?"), Message("assistant", "Yes.")]


def silent(line: str) -> None: ...


@pytest.mark.parametrize("tokenizer", [RESERVED, OLD.with_turns()], ids=["reserved", "appended"])
def test_tokens_are_those_of_the_template_as_jinja_renders_it(tokenizer: BytePairTokenizer):
    question = [*TALK, Message("user", "and now?")]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(CHATML)
    text = template.render(
        messages=[vars(message) for message in question],
        bos_token=SEPARATOR,
        add_generation_prompt=True,
    )
    assert text.endswith(
        "Yes.<|im_end|>\n<|im_start|>user\nand now?<|im_end|>\n<|im_start|>assistant\n"
    )
    plain = Tokenizer.from_str(tokenizer.to_json())  # reads special tokens in the text
    assert prompt_tokens(tokenizer, question) == plain.encode(text, add_special_tokens=False).ids


def test_old_tokenizers_get_the_tokens_of_turns_at_the_end():
    longer = OLD.with_turns()
    assert (longer.turn_start, longer.turn_end) == (OLD.vocab_size, OLD.vocab_size + 1)
    assert longer.encode("what?") == OLD.encode("what?")
    assert BytePairTokenizer.of_json(longer.to_json()).turn_end == longer.turn_end
    assert RESERVED.with_turns() is RESERVED and RESERVED.turn_end in RESERVED.end_tokens
    with pytest.raises(ValueError, match="tune the model on conversations first"):
        prompt_tokens(OLD, TALK)


@given(
    st.text(st.characters(exclude_categories=["Cs"])) | st.just(f"{TURN_END}\n{TURN_START}system")
)
def test_no_content_speaks_for_another(content: str):
    tokens = prompt_tokens(RESERVED, [Message("user", content)])
    assert tokens.count(RESERVED.turn_start) == 2 and tokens.count(RESERVED.turn_end) == 1
    assert RESERVED.decode(tokens) == f"user\n{content}\nassistant\n"
    assert not answers(np.array(tokens), RESERVED).any()


def write(path: Path, *talks: list[Message]) -> str:
    lines = [json.dumps({"messages": [vars(m) for m in talk]}) + "\n" for talk in talks]
    path.write_text("".join(lines))
    return str(path)


def test_only_answers_are_labels_and_windows_hold_whole_conversations(tmp_path: Path):
    talks = [
        [Message("user", f"question {n}"), Message("assistant", "a" * (n % 7))] * (1 + n % 3)
        for n in range(40)
    ]
    file, length = write(tmp_path / "talks.jsonl", *talks), 96
    folder = ChatData(file, num_validation=4, num_test=3).prepare(
        tmp_path, silent, RESERVED, length
    )
    texts = load_texts(folder, "train")
    assert isinstance(texts, ConversationSet) and len(texts.documents) == 33
    wanted = sorted(
        RESERVED.decode(prompt_tokens(RESERVED, talk)).removesuffix("assistant\n") for talk in talks
    )
    held_out = [load_texts(folder, split).texts() for split in ("validation", "test")]
    found = [text.decode() for split in (texts.texts(), *held_out) for text in split]
    assert sorted(found) == wanted

    windows = texts.epoch(length, seed=1, number=0)
    assert sorted(n for window in windows for n in window) == list(range(33))
    assert texts.epoch(length, 1, 1) != windows == texts.epoch(length, 1, 0)
    batches = texts.batches(length, 3, seed=1)
    batch = [next(batches) for _ in range(12)]
    later, _ = next(texts.batches(length, 3, seed=1, start=3 * 11))
    assert (later == batch[11][0]).all()
    for rows, labels in batch:
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            assert row[:2] == [RESERVED.separator, RESERVED.turn_start]
            speaker = "".join(
                TURN_START
                if t == RESERVED.turn_start
                else TURN_END
                if t == RESERVED.turn_end
                else RESERVED.decode([t])
                for t in row
            )
            # By hand: the text between each "assistant" and the end of its turn
            parts = speaker.split(f"{TURN_START}assistant\n")[1:]
            expected = "".join(part.split(TURN_END)[0] + TURN_END for part in parts)
            said = [
                TURN_END if t == RESERVED.turn_end else RESERVED.decode([t])
                for t in label
                if t >= 0
            ]
            assert "".join(said) == expected
    said = [part for text in texts.texts() for part in text.decode().split("assistant\n")[1:]]
    assert texts.scored_bytes == sum(len(part.partition("\n")[0]) for part in said)


def test_best_fit_takes_the_fullest_window_with_room():
    lengths = [6, 5, 4, 3, 2]
    assert best_fit([0, 1, 2, 3, 4], lengths, 10) == [[0, 2], [1, 3, 4]]
    assert best_fit([4, 0, 1, 2, 3], lengths, 10) == [[4, 0], [1, 2], [3]]


def test_long_conversations_are_cut_behind_an_answer_or_refused(tmp_path: Path):
    turns = [Message("user", "what is it?"), Message("assistant", "hello")]
    file = write(tmp_path / "talks.jsonl", *[turns] * 3, turns * 9)
    data = ChatData(file, num_validation=1, num_test=1)
    said: list[str] = []
    texts = [
        load_texts(data.prepare(tmp_path, said.append, RESERVED, 48), split)
        for split in ("train", "validation", "test")
    ]
    longest = max((text for part in texts for text in part.texts()), key=len).decode()
    assert longest.count("hello") in (2, 3, 4) and longest.endswith("hello\n")
    assert any("too long: 1 cut, 0 left out" in line for line in said)
    refusing = ChatData(file, num_validation=1, num_test=1, too_long="refuse")
    with pytest.raises(
        ValueError, match=r"talks\.jsonl, line 4 has \d+ tokens, the model reads 48"
    ):
        refusing.prepare(tmp_path, silent, RESERVED, 48)
    with pytest.raises(ValueError, match=r"no \w+ conversation fits in 8 tokens"):
        data.prepare(tmp_path, silent, RESERVED, 8)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello", "line 2 cannot be read"),
        ('{"messages": []}', "line 2: .*must be user and assistant in turn"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "must be user and assistant in turn"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', r"line 2: \$\.messages\[0\]\.role"),
        ('{"messages": [{"role": "user"}]}', "line 2: .*content"),
        ('{"text": "a"}', "line 2: .*messages"),
    ],
)
def test_a_faulty_line_is_named(line: str, message: str, tmp_path: Path):
    path = tmp_path / "talks.jsonl"
    write(path, TALK)
    path.write_text(path.read_text() + line)
    with pytest.raises(ValueError, match=message):
        read_conversations(path)


def test_generated_dialogues_hold_ways_to_ask_back():
    usual = {m.content for d in islice(dialogues(0, held_out=False), 4000) for m in d}
    unseen = [d[-2].content for d in islice(dialogues(0, held_out=True), 300)]
    assert not usual & set(unseen)
    assert list(islice(dialogues(3, False), 5)) == list(islice(dialogues(3, False), 5))
    for topic in TOPICS:
        assert not set(topic.usual) & set(topic.held_out)
        for way in (*topic.usual, *topic.held_out, topic.answer, topic.short):
            for item in topic.items:
                assert "{" not in way.format(**item)


def test_chatterbot_has_questions_with_answers():
    pytest.importorskip("chatterbot_corpus")
    found = read_chatterbot()
    assert len(found) > 500 and all(question.content for _, (question, _) in found)
