"""Prompts with rewards: what is written is read again, and only what is right is rewarded."""

from pathlib import Path

import numpy as np
import pytest

from ostinato.data.prompts import PromptData, PromptSet
from ostinato.data.prompts.maze import WORDS, MazeTask, read_maze, write_maze
from ostinato.data.prompts.task import Prompt
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.data.text.words import WordTokenizer, read_tokenizer

CORRIDOR = (
    "GRID_START START PATH WALL NEWLINE WALL PATH WALL NEWLINE WALL PATH GOAL NEWLINE "
    "GRID_END PATH_START"
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("RIGHT DOWN DOWN RIGHT DONE", True),
        ("RIGHT LEFT RIGHT DOWN DOWN RIGHT DONE", True),  # any walk that stays on free cells
        ("RIGHT DOWN DOWN RIGHT", False),  # no end
        ("RIGHT DOWN DOWN DONE", False),  # not at the goal
        ("DOWN RIGHT DOWN RIGHT DONE", False),  # through a wall
        ("RIGHT DOWN DOWN RIGHT RIGHT LEFT DONE", False),  # outside
        ("UP RIGHT DOWN DOWN RIGHT DONE", False),
        ("RIGHT DOWN PATH DOWN RIGHT DONE", False),
        ("RIGHT DOWN DOWN RIGHT DONE DONE", False),
        ("DONE", False),
        ("", False),
    ],
)
def test_only_a_walk_from_start_to_goal_earns_the_reward(answer: str, right: bool):
    assert MazeTask(3).is_right(Prompt(CORRIDOR), answer) == right


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("GRID_START ", "", "begin with GRID_START"),
        ("START PATH", "START HOLE", "'HOLE' is no cell"),
        ("START PATH WALL", "START PATH", "2 cells, but there are 3 rows"),
        ("GOAL", "PATH", "0 cells GOAL"),
    ],
)
def test_a_text_that_is_no_maze_is_refused(old: str, new: str, words: str):
    with pytest.raises(ValueError, match=words):
        read_maze(CORRIDOR.replace(old, new, 1))


def test_mazes_are_written_as_they_are_read_and_their_answers_are_right():
    task = MazeTask(7)
    prompts = task.draw(20, np.random.default_rng(0))
    assert len({prompt.text for prompt in prompts}) == 20
    for prompt in prompts:
        assert write_maze(read_maze(prompt.text)) == prompt.text
        assert task.is_right(prompt, prompt.answer)
        assert not task.is_right(prompt, prompt.answer.replace("DONE", "UP UP UP UP UP UP UP DONE"))


@pytest.mark.parametrize("reward", ["maze", "arithmetic"])
def test_splits_share_no_prompt_and_a_batch_depends_on_its_number_alone(
    reward: str, tmp_path: Path
):
    data = PromptData(reward, size=5, num_train=50, num_validation=10, num_test=10)
    folder = data.prepare(tmp_path, lambda line: None)
    sets = [PromptSet.load(folder, split) for split in ("train", "validation", "test")]
    texts = [prompt.text for one in sets for prompt in one.prompts]
    assert len(texts) == len(set(texts)) == 70
    train = sets[0]
    assert all(data.task.are_right([(prompt, prompt.answer) for prompt in train.prompts[:3]]))
    rows = [train.batch(step, 20, seed=3) for step in range(5)]
    assert sorted(number for row in rows for number in row) == sorted([*range(50)] * 2)
    assert train.batch(2, 20, seed=3) == rows[2] and train.batch(2, 20, seed=4) != rows[2]


def test_words_are_tokens_and_foreign_words_are_refused():
    tokenizer = MazeTask(5).tokenizer()
    again = read_tokenizer(tokenizer.to_json())
    assert isinstance(again, WordTokenizer) and again.words == tokenizer.words
    assert again.vocab_size == 32
    assert again.encode(CORRIDOR)[:2] == [WORDS.index("GRID_START"), WORDS.index("START")]
    assert again.decode(again.encode(CORRIDOR)) == CORRIDOR
    with pytest.raises(ValueError, match="does not know the word 'NORTH'"):
        again.encode("NORTH")
    bytes_alone = BytePairTokenizer.train([], 257).to_json()
    assert isinstance(read_tokenizer(bytes_alone), BytePairTokenizer)
    with pytest.raises(ValueError, match="restore it"):
        WordTokenizer.of_json(tokenizer.to_json().replace('"WALL": 5', '"WALL": 50'))


def test_settings_without_sense_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="choose maze, arithmetic, code or reasoning-gym:NAME"):
        PromptData("poems")
    with pytest.raises(ValueError, match="odd size, not 6"):
        _ = PromptData(size=6).task
    with pytest.raises(ValueError, match="only 300 different prompts: lower num_validation"):
        PromptData("arithmetic", digits=1).prepare(tmp_path, lambda line: None)


def test_the_scorers_of_reasoning_gym_judge():
    pytest.importorskip("reasoning_gym")
    task = PromptData("reasoning-gym:chain_sum").task
    prompt, *others = task.draw(3, np.random.default_rng(0))
    assert len(others) == 2
    assert task.is_right(prompt, prompt.answer) and not task.is_right(prompt, "seventeen")
    with pytest.raises(ValueError, match="has no task 'nothing'"):
        _ = PromptData("reasoning-gym:nothing").task
