"""Recorded runs of the originals are reproduced, and a change in what was recorded is noticed."""

import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from ostinato.verify.golden import (
    GoldenResult,
    compare,
    floor_group,
    kind_of,
    precision_of,
    read_golden,
    replay,
    rounding_floors,
    verify_folder,
    verify_golden,
)
from ostinato.verify.replay import Recording, Rounding
from ostinato.verify.tables import print_golden

GOLDEN = Path(__file__).parent.parent / "golden"
RECURSIVE = sorted([*GOLDEN.glob("trm_*.safetensors"), *GOLDEN.glob("hrm_*.safetensors")])
KINDS = ["outputs", "carry", "loss", "metrics", "gradients", "final weights", "evaluation"]


@pytest.mark.parametrize("path", RECURSIVE, ids=lambda path: path.stem)
def test_recorded_runs_are_reproduced(path: Path):
    comparisons = verify_golden(path)
    assert [row.kind for row in comparisons] == KINDS
    assert all(row.passed for row in comparisons), comparisons
    golden, _ = read_golden(path)
    recorded = {k: v for k, v in golden.items() if "/batch/" not in k and not k.startswith("init/")}
    assert sum(row.numbers for row in comparisons) == sum(v.numel() for v in recorded.values())


class Measured:
    """One file, replayed once for many tests."""

    def __init__(self, name: str):
        self.golden, self.metadata = read_golden(GOLDEN / f"{name}.safetensors")
        self.ours = replay(self.golden, self.metadata, Rounding())
        self.floors = rounding_floors(self.golden, self.metadata, self.ours)
        self.precision = precision_of(self.metadata)

    def failed(
        self, golden: Recording | None = None, ours: dict[str, Tensor] | None = None
    ) -> list[str]:
        """The kinds that fail with other recorded numbers, or with other ones of ours."""
        rows = compare(golden or self.golden, ours or self.ours, self.floors, self.precision)
        return [row.kind for row in rows if not row.passed]

    def replayed(self, golden: Recording) -> list[str]:
        """The kinds that fail when a changed file is replayed."""
        return self.failed(golden, replay(golden, self.metadata, Rounding()))


@pytest.fixture(scope="module", params=["trm_attention", "trm_mlp", "hrm_act_v1"])
def measured(request: pytest.FixtureRequest) -> Measured:
    return Measured(request.param)


def changed(tensors: dict[str, Tensor], key: str, by: float) -> Recording:
    """The same recording but for the last number of one tensor."""
    tensor = tensors[key].clone().to(torch.float64)
    tensor.view(-1)[-1] += by
    return Recording({**tensors, key: tensor})


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_number_is_noticed(measured: Measured, kind: str):
    keys = [k for k in measured.ours if kind_of(k) == kind and k.split("/")[0] != "step7"]
    early = [k for k in keys if k.split("/")[0] in ("step1", "step2", "final", "eval")]
    tested = 0
    for key in early if measured.metadata["model"] == "trm" else keys:
        if key.startswith("eval/") and measured.floors[floor_group(key)] > 1e-4:
            continue  # after some steps of trm_mlp rounding alone changes more than that
        tested += 1
        scale = measured.golden[key].abs().max().item() if kind == "gradients" else 1.0
        if scale:
            assert measured.failed(changed(measured.golden, key, 1e-3 * scale)) == [kind], key
    assert tested


def test_a_nan_on_either_side_fails(measured: Measured):
    key = "step1/out/logits"
    assert measured.failed(changed(measured.golden, key, math.nan)) == ["outputs"]
    assert measured.failed(ours=dict(changed(measured.ours, key, math.nan))) == ["outputs"]


def test_other_weights_or_puzzles_are_noticed(measured: Measured):
    golden = measured.golden
    weight = "init/inner.lm_head.weight"
    assert {"outputs", "loss"} <= set(measured.replayed(changed(golden, weight, 1e-2)))
    token = Recording(golden)
    token["step1/batch/inputs"] = (golden["step1/batch/inputs"] + 1) % 6
    assert {"outputs", "carry", "loss"} <= set(measured.replayed(token))


def test_a_number_that_only_rounding_decides_is_no_evidence(measured: Measured):
    floors = dict.fromkeys(measured.floors, math.inf)
    far = {key: value + 1 for key, value in measured.ours.items()}
    rows = compare(measured.golden, far, floors, measured.precision)
    assert all(row.chaotic == row.numbers and not row.passed for row in rows)


def test_a_gross_difference_fails_even_where_rounding_decides_much(measured: Measured):
    floors = dict.fromkeys(measured.floors, 0.5)
    far = {key: value + 1 for key, value in measured.ours.items()}
    rows = compare(measured.golden, far, floors, measured.precision)
    assert all(row.missed > 0 for row in rows)


def test_rounding_moves_a_number_more_the_longer_the_recursion():
    floors = Measured("trm_mlp").floors
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
