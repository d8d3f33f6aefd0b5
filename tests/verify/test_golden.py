"""Recorded runs of the originals are reproduced, and a change in what was recorded is noticed."""

import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from ostinato.cli.verify import print_golden
from ostinato.verify.comparison import Recording
from ostinato.verify.golden import GoldenResult, read_golden, verify_folder
from ostinato.verify.golden_recursive import compare, floor_group, kind_of
from tests.verify.recordings import GOLDEN, RECURSIVE, Measured, measured

KINDS = ["outputs", "carry", "loss", "metrics", "gradients", "final weights", "evaluation"]


@pytest.mark.parametrize("name", RECURSIVE)
def test_recorded_runs_are_reproduced(name: str):
    run = measured(name)
    rows = compare(run.golden, run.ours, run.floors, run.precision)
    assert [row.kind for row in rows] == KINDS
    assert all(row.passed for row in rows), rows
    recorded = (v for k, v in run.golden.items() if "/batch/" not in k and "init/" not in k)
    assert sum(row.numbers for row in rows) == sum(v.numel() for v in recorded)


@pytest.fixture(scope="module", params=["trm_attention", "trm_mlp", "hrm_act_v1"])
def recording(request: pytest.FixtureRequest) -> Measured:
    return measured(request.param)


def changed(tensors: dict[str, Tensor], key: str, by: float) -> Recording:
    """The same recording but for the last number of one tensor."""
    tensor = tensors[key].clone().to(torch.float64)
    tensor.view(-1)[-1] += by
    return Recording({**tensors, key: tensor})


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_number_is_noticed(recording: Measured, kind: str):
    keys = [k for k in recording.ours if kind_of(k) == kind and k.split("/")[0] != "step7"]
    early = [k for k in keys if k.split("/")[0] in ("step1", "step2", "final", "eval")]
    tested = 0
    for key in early if recording.metadata["model"] == "trm" else keys:
        if key.startswith("eval/") and recording.floors[floor_group(key)] > 1e-4:
            continue  # after some steps of trm_mlp rounding alone changes more than that
        tested += 1
        scale = recording.golden[key].abs().max().item() if kind == "gradients" else 1.0
        if scale:
            assert recording.failed(changed(recording.golden, key, 1e-3 * scale)) == [kind], key
    assert tested


def test_a_nan_on_either_side_fails(recording: Measured):
    key = "step1/out/logits"
    assert recording.failed(changed(recording.golden, key, math.nan)) == ["outputs"]
    assert recording.failed(ours=dict(changed(recording.ours, key, math.nan))) == ["outputs"]


def test_other_weights_or_puzzles_are_noticed(recording: Measured):
    golden = recording.golden
    weight = "init/inner.lm_head.weight"
    assert {"outputs", "loss"} <= set(recording.replayed(changed(golden, weight, 1e-2)))
    token = Recording(golden)
    token["step1/batch/inputs"] = (golden["step1/batch/inputs"] + 1) % 6
    assert {"outputs", "carry", "loss"} <= set(recording.replayed(token))


def test_a_number_that_only_rounding_decides_is_no_evidence(recording: Measured):
    floors = dict.fromkeys(recording.floors, math.inf)
    far = {key: value + 1 for key, value in recording.ours.items()}
    rows = compare(recording.golden, far, floors, recording.precision)
    assert all(row.chaotic == row.numbers and not row.passed for row in rows)


def test_a_gross_difference_fails_even_where_rounding_decides_much(recording: Measured):
    floors = dict.fromkeys(recording.floors, 0.5)
    far = {key: value + 1 for key, value in recording.ours.items()}
    rows = compare(recording.golden, far, floors, recording.precision)
    assert all(row.missed > 0 for row in rows)


def test_rounding_moves_a_number_more_the_longer_the_recursion():
    floors = measured("trm_mlp").floors
    assert floors["step6/outputs"] > 10 * floors["step1/outputs"] > 0


def write(path: Path, golden: Recording, metadata: dict[str, str]) -> None:
    save_file({k: v.contiguous() for k, v in golden.items()}, path, metadata)


def test_a_folder_reports_every_file(tmp_path: Path):
    golden, metadata = read_golden(GOLDEN / "trm_bfloat16.safetensors")
    write(tmp_path / "a_good.safetensors", golden, metadata)
    wrong = changed(golden, "final/inner.lm_head.weight", 0.1)
    write(tmp_path / "b_changed.safetensors", wrong, metadata)
    write(tmp_path / "c_foreign.safetensors", golden, metadata | {"model": "gpt"})
    (tmp_path / "d_broken.safetensors").write_bytes(b"nothing")
    write(
        tmp_path / "e_extra.safetensors", Recording(golden | {"step1/x": torch.ones(1)}), metadata
    )
    del golden["step2/batch/labels"]
    write(tmp_path / "f_short.safetensors", golden, metadata)

    results = list(verify_folder(tmp_path))
    assert [result.passed for result in results] == [True] + 5 * [False]
    assert [row.kind for row in results[1].comparisons if not row.passed] == [
        "final weights",
        "evaluation",  # which starts from them
    ]
    assert "gpt" in results[2].error
    assert "truncated" in results[3].error
    assert "step1/x" in results[4].error
    assert "step2/batch/labels" in results[5].error

    console = Console(width=80, record=True)
    for result in results:
        print_golden(console, result)
        assert json.loads(json.dumps(result.to_json()))["passed"] == result.passed
    text = console.export_text()
    assert text.count("FAILED") == 7  # five files and two of their lines
    assert "…" not in text


def test_a_folder_without_recordings_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="give a folder of golden files"):
        list(verify_folder(tmp_path))


@pytest.mark.parametrize(
    ("entry", "settings", "message"),
    [
        ("config", {"forward_dtype": "float16"}, "float16"),
        ("config", {"hiden_size": 3}, "hiden_size"),
        ("config", {"hidden_size": 64}, "shape"),
        ("optimizer", {"momentum": 0.9}, "momentum"),
    ],
)
def test_settings_that_do_not_fit_are_an_error(
    tmp_path: Path, entry: str, settings: dict, message: str
):
    golden, metadata = read_golden(GOLDEN / "trm_bfloat16.safetensors")
    metadata[entry] = json.dumps(json.loads(metadata[entry]) | settings)
    write(tmp_path / "file.safetensors", golden, metadata)
    (result,) = verify_folder(tmp_path)
    assert message in result.error


def test_betas_may_be_written_as_a_pair(tmp_path: Path):
    golden, metadata = read_golden(GOLDEN / "trm_bfloat16.safetensors")
    optimizer = json.loads(metadata["optimizer"])
    optimizer["betas"] = [optimizer.pop("beta1"), optimizer.pop("beta2")]
    write(tmp_path / "file.safetensors", golden, metadata | {"optimizer": json.dumps(optimizer)})
    (result,) = verify_folder(tmp_path)
    assert isinstance(result, GoldenResult) and result.passed
