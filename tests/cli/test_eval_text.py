"""`ostinato train` and `ostinato eval` of a language model, by way of the command line."""

import json
from pathlib import Path

import pytest
import torch

from ostinato.cli import main
from ostinato.data.text import TokenSet
from ostinato.evaluation.text import ByteTrigram, evaluate, xz_bits_per_byte
from ostinato.weights.load import load

SMALL = (
    "--num-tokens 262 --vocab-size 262 --num-validation 2 --num-test 2 --seq-len 16 "
    "--hidden-size 16 --num-layers 1 --num-heads 2 --group-size 16 --global-batch-size 4 "
    "--total-steps 3 --device cpu --forward-dtype float32"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run and its data are."""
    place = tmp_path_factory.mktemp("place")
    (place / "corpus").mkdir()
    for number in range(8):
        (place / f"corpus/{number}.txt").write_text(f"def f{number}(x):\n    return x\n" * 9)
    words = f"train nanochat-tiny {SMALL} --corpus {place}/corpus --run {place}/run"
    assert main([*words.split(), "--data-root", str(place / "data")]) == 0
    return place


def test_the_result_is_that_of_python(trained: Path, capsys: pytest.CaptureFixture[str]):
    words = ["eval", str(trained / "run"), "--data-root", str(trained / "data"), "--device", "cpu"]
    assert main([*words, "--json", "--baselines"]) == 0
    content = json.loads(capsys.readouterr().out)
    data = next((trained / "data").glob("text-*"))
    texts, model = TokenSet.load(data, "test"), load(trained / "run")
    result = evaluate(model, texts, 16, context=8)
    for name in ("bits_per_byte", "copy_rate", "accuracy", "tokens", "bytes"):
        assert content[name] == pytest.approx(getattr(result, name)), name
    assert content["baselines"] == {
        "byte trigram": ByteTrigram(TokenSet.load(data, "train").texts()).bits_per_byte(
            texts.texts()
        ),
        "xz -9e": xz_bits_per_byte(texts.texts()),
    }
    assert json.loads((trained / "run/result.json").read_text()) == content

    assert main([*words, "--context", "0", "--split", "validation"]) == 0
    assert "bits per byte" in capsys.readouterr().out
    assert json.loads((trained / "run/result.json").read_text()) == content, "test is kept"


def test_expressions_are_scored_by_operators_and_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sizes = "--total-steps 2 --global-batch-size 4 --num-train 60 --num-validation 6 --num-test 30"
    words = f"train nanochat-hops {sizes} --hidden-size 16 --num-loops 2 --device cpu"
    place = ["--data-root", str(tmp_path / "data")]
    assert main([*words.split(), "--run", str(tmp_path / "run"), *place]) == 0
    capsys.readouterr()
    words = ["eval", str(tmp_path / "run"), *place, "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [len(content["passes"]), len(content["hops"])] == [2, 8]
    assert sum(score["exits"] for score in content["passes"]) == pytest.approx(1)
    assert content["passes"][-1]["bits_per_byte"] == content["bits_per_byte"]

    # By hand: one expression at a time, all passes, then a choice
    model, texts = (
        load(tmp_path / "run"),
        TokenSet.load(next((tmp_path / "data").iterdir()), "test"),
    )
    rows = [texts.tokenizer.encode(text.decode()) for text in texts.texts()]
    rows = [row for row in rows if len(row) == 1 + 7 + 2]  # the separator, 3 + 4 signs, = and 1
    right, left = [], []
    for row in rows:
        first, last = (state[:, -1] for state in model.states(torch.tensor([row[:-1]])))
        right.append([int(model.read_out(x[:, None]).argmax()) == row[-1] for x in (first, last)])
        left.append(1 + (model.exit_logits(first[:, None]).sigmoid().item() < 0.5))
    found = content["hops"][2]
    assert (found["operators"], found["expressions"]) == (3, len(rows))
    assert found["accuracy"] == pytest.approx(torch.tensor(right).double().mean(0).tolist())
    assert found["left_pass"] == pytest.approx(sum(left) / len(left))
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "leave at" in out and "leave here" in out


def status(*words: str) -> object:
    """The exit code, wherever the mistake is found."""
    try:
        return main([*words])
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--max-steps 3", "unknown setting --max-steps"),
        ("--context 16", "leaves nothing to predict"),
        ("--split all", "split"),
    ],
)
def test_bad_input(trained: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]):
    place = ["--data-root", str(trained / "data")]
    assert status("eval", str(trained / "run"), *words.split(), *place) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().splitlines()[-1].startswith("ostinato")


def test_puzzles_are_no_text(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert status("train", "nanochat-tiny", "--data", str(trained)) == 2
    assert "give nanochat-tiny a text with --corpus" in capsys.readouterr().err
