"""ONNX files: the same answers as PyTorch, every form of the weights, and refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import ostinato
from ostinato import cli
from ostinato.weights import onnx as writer
from ostinato.weights.onnx import export_onnx
from ostinato.weights.onnx_model import OnnxModel
from ostinato.weights.save import save_weights
from tests.web.tiny import tiny

pytestmark = [pytest.mark.compile, pytest.mark.timeout(600)]
MAKES = ("trm-attention", "trm-mlp", "hrm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of every make."""
    folder = tmp_path_factory.mktemp("onnx")
    for make in MAKES:
        export_onnx(tiny(make), folder / f"{make}.onnx", puzzles(), note="kept")
    return folder


def puzzles() -> torch.Tensor:
    return torch.randint(1, 6, (5, 16), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("make", MAKES)
def test_every_step_is_that_of_pytorch(make: str, folder: Path):
    model = tiny(make)
    ids = torch.arange(5) % model.config.num_puzzle_identifiers
    file = ostinato.load(folder / f"{make}.onnx")
    assert file.config == model.config
    steps = zip(
        *(ostinato.think(m, puzzles(), ids, max_steps=3) for m in (file, model)), strict=True
    )
    for ours, expected in steps:
        torch.testing.assert_close(ours.output, expected.output, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.state, expected.state, atol=1e-4, rtol=1e-4)


def test_threads_sleep_between_steps(folder: Path):
    """Else they look for work for some 50 ms after each, and take the cores from others."""
    model = ostinato.load(folder / "hrm.onnx")
    assert isinstance(model, OnnxModel)
    options = model.session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == torch.get_num_threads()


def test_the_file_describes_itself_and_nothing_of_the_machine(folder: Path):
    path = folder / "hrm.onnx"
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(found["ostinato"])["notes"] == {"note": "kept"}
    wanted = {"task": "sudoku4", "canvas": "4x4", "symbols": "..1234", "halting": "q[0] > q[1]"}
    assert wanted.items() <= found.items()
    assert len(found["sha256"]) == 64
    assert str(Path(ostinato.__file__).parent).encode() not in path.read_bytes()


@pytest.mark.parametrize(("form", "bits", "error"), [("fp16", 16, 2**-11), ("int8", 8, 1 / 254)])
def test_matrices_are_held_in_fewer_bits(form: str, bits: int, error: float, tmp_path: Path):
    model = tiny("trm-mlp")
    agreement = export_onnx(model, tmp_path / "m.onnx", puzzles(), form)
    assert agreement.cosine > 0.99
    held = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer
    }
    weight = model.L_level.layers[0].mlp.gate_up_proj.weight.detach().numpy()
    name = next(
        n for n, v in held.items() if n.endswith(form) and v.shape in (weight.shape, weight.T.shape)
    )
    codes = held[name] if held[name].shape == weight.shape else held[name].T
    assert codes.dtype.itemsize == bits // 8
    scale = held[name.replace(form, "scale")][:, None] if form == "int8" else 1
    most = np.abs(weight).max(1, keepdims=True)
    assert (np.abs(codes * scale - weight) <= 1.01 * error * most).all()


def test_a_form_that_loses_the_model_is_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(writer.SMALLEST_COSINE, "int8", 1.1)
    with pytest.raises(ValueError, match="int8 does not hold the model"):
        export_onnx(tiny("trm-mlp"), tmp_path / "m.onnx", puzzles(), "int8")
    monkeypatch.setattr(
        writer, "encoded", lambda vector: writer.base64.b64encode(bytes(4 * len(vector))).decode()
    )
    with pytest.raises(ValueError, match="fp32 does not hold the model"):
        export_onnx(tiny("trm-mlp"), tmp_path / "m.onnx", puzzles())
    assert list(tmp_path.iterdir()) == []


def test_export_and_solve_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    save_weights(tmp_path / "model.safetensors", tiny("hrm"))
    words = ["export", str(tmp_path), "--format", "onnx", "--check-puzzles", "3"]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    path = printed.out.strip()
    assert "3 of 3 answers the same, 0 of the 0 that the model is sure of" in printed.err
    assert cli.main(["solve", path, ".1..3..12..4..3."]) == 1  # it is untrained
    table = tmp_path / "puzzles.csv"
    table.write_text("question,answer\n.1..3..12..4..3.,4123324123141432\n")
    capsys.readouterr()
    found = []
    for model in (path, str(tmp_path / "model.safetensors")):
        words = ["eval", model, "--data", str(table), "--data-root", str(tmp_path), "--json"]
        assert cli.main([*words, "--forward-dtype", "float32"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["cell_accuracy"] == found[1]["cell_accuracy"]
    for words, reason in [
        (["solve", path, "--compile", ".1..3..12..4..3."], "leave out compile"),
        (["solve", path, "--forward-dtype", "bfloat16", "1" * 16], "float32"),
        (["export", path, "--format", "onnx"], "only runs"),
        (["export", str(tmp_path), "--format", "gguf", "--weights", "int8"], "for --format onnx"),
    ]:
        with pytest.raises(SystemExit):
            cli.main(words)
        assert reason in capsys.readouterr().err


def test_files_of_others_are_refused(tmp_path: Path):
    (tmp_path / "text.onnx").write_text("no graph")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=10), tmp_path / "other.onnx")
    for name, reason in (("text.onnx", "cannot be opened"), ("other.onnx", "export again")):
        with pytest.raises(ValueError, match=reason):
            ostinato.load(tmp_path / name)


def test_in_full_precision_answers_that_the_model_is_sure_of_must_be_the_same():
    agreement = writer.OnnxAgreement(0.0, 1.0, puzzles=100, same=96, sure=(95, 94), solved=None)
    writer.check(agreement, "fp32")
    worse = replace(agreement, sure=(95, 93))
    writer.check(worse, "int8")
    with pytest.raises(ValueError, match="93 of the 95 that the model is sure of"):
        writer.check(worse, "fp32")
