"""`ostinato bench solve`: its cases, what it says of them, and its arithmetic."""

import json
from pathlib import Path

import pytest
import torch

from ostinato.bench.solving import CaseSpeed, bench_solving, cases_of, count_flops
from ostinato.cli import main
from ostinato.data import sudoku
from ostinato.data.puzzles import PuzzleSet
from ostinato.models import TRM, TRMConfig
from ostinato.weights.save import save_weights
from tests.inference.stand_in import LookUp, steps_needed

SUDOKU = sudoku.Sudoku(4)
INPUTS, LABELS = sudoku.generate(SUDOKU, 12, (4, 10), seed=3)
PUZZLES = PuzzleSet.of_examples("sudoku4", INPUTS, LABELS, 6)
NEEDED = [steps_needed(puzzle) for puzzle in INPUTS]


def test_every_axis_is_varied_alone():
    cases = cases_of(["depth"], [8, 4], [2, 3], [5], [1.0])
    assert [(c.mode, c.puzzles, c.batch_size, c.max_steps) for c in cases] == [
        ("fixed", 8, 2, 5),
        ("early exit", 8, 2, 5),
        ("depth", 8, 2, 5),
        ("fixed", 4, 2, 5),
        ("early exit", 4, 2, 5),
        ("fixed", 8, 3, 5),
        ("early exit", 8, 3, 5),
    ]
    assert not cases[0].search.early_exit and cases[1].search.early_exit
    assert cases[2].search.depth == 4


def test_searches_in_several_sizes():
    cases = cases_of(["depth", "noise", "cascade"], [8], [2], [5], [0.25, 2.0])[2:]
    assert [c.mode for c in cases] == "depth depth noise noise cascade cascade".split()
    sizes = [(c.search.depth, c.search.views, c.search.rollouts) for c in cases]
    assert sizes == [(1, 0, 0), (8, 0, 0), (1, 0, 8), (1, 0, 64), (1, 8, 8), (8, 64, 64)]


def test_sizes_that_come_to_the_same_are_measured_once():
    cases = cases_of(["depth"], [8, 8], [2], [5], [0.125, 0.25, 0.5])
    assert [(c.mode, c.search.depth) for c in cases[2:]] == [("depth", 1), ("depth", 2)]
    assert len(cases) == 4


def test_what_is_measured(monkeypatch):
    """With a clock that moves by a second for every step of a puzzle, and a peak of 1 FLOP/s."""
    now = [0.0]

    class Counting(LookUp):
        def reply(self, state, inputs, puzzle_ids):
            now[0] += len(inputs)
            return super().reply(state, inputs, puzzle_ids)

    def seconds_of(work, device):
        start = now[0]
        work()
        return now[0] - start

    monkeypatch.setattr("ostinato.bench.solving.seconds_of", seconds_of)
    monkeypatch.setattr("ostinato.bench.solving.measure_peak", lambda *_: 1.0)
    monkeypatch.setattr("ostinato.bench.solving.count_flops", lambda _: 3)
    told: list[str] = []
    cases = cases_of([], [12, 6], [5], [4], [1.0])
    speed = bench_solving(Counting(), PUZZLES, cases, 2, report=told.append)
    assert len(told) == 2 * len(cases) and [found.case for found in speed.cases] == cases
    for found in speed.cases:
        needed = [min(4, n + 1) for n in NEEDED[: found.case.puzzles]]  # with a patience of 2
        mean = sum(needed) / len(needed) if found.case.search.early_exit else 4
        assert found.exact_accuracy == 1 and found.selected_by == "q"
        assert found.steps_per_puzzle == pytest.approx(mean)
        assert found.puzzles_per_second.median == pytest.approx(1 / mean)
        assert found.sample_steps_per_second.low == pytest.approx(1)
        assert found.share_of_peak.high == pytest.approx(3)
        assert found.times_fixed.median == pytest.approx(4 / mean)
    assert speed.peak_memory_bytes > 0


def test_flops_of_a_step_are_those_of_the_products_written_out():
    config = TRMConfig(
        task="sudoku4", vocab_size=6, seq_len=16, hidden_size=8, num_heads=1, H_cycles=2,
        L_cycles=3, L_layers=1, mlp_t=True, pos_encodings="none", puzzle_emb_ndim=0,
        puzzle_emb_len=0, forward_dtype="float32",
    )  # fmt: skip
    inner = 256  # both widths are rounded up to it
    call = 2 * 3 * inner * (8 * 16) + 2 * 3 * inner * (16 * 8)
    heads = 2 * 16 * 8 * 6 + 2 * 8 * 2
    assert count_flops(TRM(config)) == 2 * 4 * call + heads


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The arguments that name a model without sense, and a table of puzzles."""
    config = TRMConfig(
        task="sudoku4", vocab_size=6, seq_len=16, hidden_size=16, num_heads=2, H_cycles=1,
        L_cycles=1, L_layers=1, puzzle_emb_ndim=0, puzzle_emb_len=0, halt_max_steps=3,
        forward_dtype="float32",
    )  # fmt: skip
    save_weights(tmp_path / "model.safetensors", TRM(config, torch.Generator().manual_seed(0)))
    boards = (map(SUDOKU.format, pair) for pair in zip(INPUTS, LABELS, strict=True))
    lines = ["question,answer", *map(",".join, boards)]
    (tmp_path / "test.csv").write_text("\n".join(lines))
    place = [str(tmp_path / "model.safetensors"), "--data", str(tmp_path)]
    return ["bench", "solve", *place, "--device", "cpu", "--repeat", "1"]


def test_json_and_table(words, capsys, monkeypatch):
    monkeypatch.setattr("ostinato.bench.measure.PEAK_SECONDS", 1e-9)
    flags = "--puzzles 6 3 --batch-size 4 --searches symmetries".split()
    assert main([*words, *flags, "--forward-dtype", "bfloat16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dtype"] == "bfloat16"
    modes = [(part["case"]["mode"], part["case"]["puzzles"]) for part in found["cases"]]
    assert modes == [
        ("fixed", 6), ("early exit", 6), ("symmetries", 6), ("fixed", 3), ("early exit", 3)
    ]  # fmt: skip
    assert found["cases"][0].keys() == CaseSpeed.__dataclass_fields__.keys()
    assert found["cases"][0]["steps_per_puzzle"] == 3 and found["repetitions"] == 1
    assert found["cases"][2]["case"]["search"]["views"] == 8
    assert main([*words, *flags]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "medians of 1 repetitions" in text and "symmetries 0.0 % 51 " in text
    assert "6 puzzles, 4 at a time, up to 3 steps at first mode" in text
    assert "A step of a puzzle takes" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--puzzles 13", "13 puzzles are asked for, but there are 12: choose from 1 to 12"),
        ("--puzzles 4 --batch-size 0", "batch_size must be at least 1, not 0"),
        ("--puzzles 4 --max-steps 0", "max_steps must be at least 1, not 0"),
        ("--puzzles 4 --repeat 0", "repeat must be at least 1, not 0"),
        ("--search-sizes", "search_sizes is empty: give at least one number"),
        ("--searches deep", "there is no search 'deep'"),
    ],
)
def test_mistakes_take_one_line(words, flags, message, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, *flags.split()])
    assert end.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
