"""`evaluate` against a loop over single puzzles and cells; intervals against published ones."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.puzzles import (
    by_rating,
    evaluate,
    interval_of_shares,
    wilson_interval,
)
from ostinato.inference.think import think
from ostinato.models import TRM, TRMConfig
from ostinato.weights.save import save_weights

SEQ, VOCAB, STEPS, COUNT = 6, 5, 3, 23
IGNORED = 9
CONFIG = TRMConfig(
    vocab_size=VOCAB,
    seq_len=SEQ,
    hidden_size=16,
    num_heads=2,
    H_cycles=1,
    L_cycles=1,
    L_layers=1,
    puzzle_emb_ndim=16,
    puzzle_emb_len=1,
    num_puzzle_identifiers=4,
    halt_max_steps=STEPS,
    forward_dtype="float32",
)


@pytest.fixture(scope="module")
def model() -> TRM:
    """One that changes its mind, and is sure of some answers: random all over."""
    generator = torch.Generator().manual_seed(4)
    model = TRM(CONFIG, generator).eval()
    assert model.q_head.bias is not None and model.puzzle_emb is not None
    with torch.no_grad():
        model.q_head.weight.normal_(generator=generator)
        model.q_head.bias.zero_()
        model.lm_head.weight.mul_(5)
        model.puzzle_emb.weights.normal_(generator=generator)
    return model


def thoughts(model: TRM, tokens: list[int], puzzle_id: int, steps: int):
    """Answer and q after each step, one puzzle alone."""
    state = model.initial_state(1)
    found = []
    with torch.no_grad():
        for _ in range(steps):
            state, output = model(state, torch.tensor([tokens]), torch.tensor([puzzle_id]))
            found.append((output.logits[0].argmax(-1).tolist(), output.q_halt.item()))
    return found


@pytest.fixture(scope="module")
def puzzles(model: TRM) -> PuzzleSet:
    """Labels that the model hits after step 1, 2, 3 or never; one in four cells is not labelled."""
    rng = np.random.default_rng(0)
    inputs, ids = rng.integers(0, VOCAB, (COUNT, SEQ)), rng.integers(0, 4, COUNT)
    labels = np.zeros((COUNT, SEQ), int)
    for number in range(COUNT):
        answers = thoughts(model, inputs[number].tolist(), int(ids[number]), STEPS)
        labels[number] = answers[number % STEPS][0]
        if number % 4 == 3:
            labels[number, :2] = (labels[number, :2] + 1) % VOCAB
    labels[rng.random((COUNT, SEQ)) < 0.25] = IGNORED
    labels[5] = IGNORED
    return PuzzleSet.assemble(
        Metadata(vocab_size=VOCAB, seq_len=SEQ, num_puzzle_identifiers=4, ignore_label_id=IGNORED),
        inputs,
        labels,
        puzzle_identifiers=ids,
        puzzle_indices=np.arange(COUNT + 1),
        group_indices=np.arange(COUNT + 1),
        ratings=np.arange(COUNT) % 7,
    )


def test_it_equals_a_loop_over_puzzles_and_cells(model: TRM, puzzles: PuzzleSet):
    steps = STEPS + 1
    exact_by_step, shares, counts = [[] for _ in range(steps)], [], dict.fromkeys("0123", 0)
    by_low: dict[str, list[bool]] = {"0": [], "1": [], "2": [], "3-4": [], "5-8": []}
    for number in range(COUNT):
        if number == 5:
            continue
        tokens, puzzle_id = puzzles.inputs[number].tolist(), puzzles.puzzle_identifiers[number]
        truth = puzzles.labels[number].tolist()
        right = False
        for step, (answer, q) in enumerate(thoughts(model, tokens, int(puzzle_id), steps)):
            cells = [a == t for a, t in zip(answer, truth, strict=True) if t != IGNORED]
            right = all(cells)
            exact_by_step[step].append(right)
            if step == steps - 1:
                shares.append(sum(cells) / len(cells))
                counts[str(2 * (q <= 0) + (not right))] += 1
        rating = number % 7
        name = {3: "3-4", 4: "3-4", 5: "5-8", 6: "5-8"}.get(rating, str(rating))
        by_low[name].append(right)
    final = exact_by_step[-1]
    assert 0 < sum(final) < len(final) == COUNT - 1, "a test that only sees wrong answers is none"
    assert len({tuple(step) for step in exact_by_step}) > 1
    assert sum(count > 0 for count in counts.values()) > 2

    for batch_size in (1, 5, 8, 512):
        told: list[float] = []
        result = evaluate(model, puzzles, batch_size, steps, progress=told.append)
        assert (result.puzzles, result.steps) == (COUNT - 1, steps)
        assert result.exact_accuracy == pytest.approx(sum(final) / len(final), abs=1e-12)
        assert result.exact_interval == wilson_interval(result.exact_accuracy, COUNT - 1)
        assert result.cell_accuracy == pytest.approx(sum(shares) / len(shares), abs=1e-7)
        expected = [sum(step) / len(step) for step in exact_by_step]
        assert result.exact_by_step == pytest.approx(expected, abs=1e-12)
        assert [
            (part.ratings, part.puzzles, part.exact_accuracy) for part in result.exact_by_rating
        ] == [(name, len(hits), sum(hits) / len(hits)) for name, hits in by_low.items()]
        q = result.q_calibration
        assert [q.sure_right, q.sure_wrong, q.unsure_right, q.unsure_wrong] == list(counts.values())
        assert told[-1] == COUNT and told == sorted(set(told))
        assert len(told) == steps * math.ceil(COUNT / batch_size)
        assert result.puzzles_per_second > 0
    assert evaluate(model, puzzles).steps == STEPS


RANK = """
import json, sys
from dataclasses import asdict
from pathlib import Path

import torch.distributed as dist

from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.puzzles import evaluate
from ostinato.weights.load import load
from ostinato.training.distributed import World

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
world = World(rank, 2)
for batch_size in (1, 5, 512):
    result = evaluate(
        load(folder / "model.safetensors"),
        PuzzleSet.load(folder, "test"),
        batch_size,
        rank=world.rank,
        world_size=world.size,
        sum_over_ranks=world.sum,
    )
    print(json.dumps(asdict(result)))
dist.destroy_process_group()
"""


def test_two_processes_count_every_puzzle_once(model: TRM, puzzles: PuzzleSet, tmp_path: Path):
    puzzles.save(tmp_path, "test")
    save_weights(tmp_path / "model.safetensors", model)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path), str(rank)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate()[0].splitlines() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    alone = json.loads(json.dumps(asdict(evaluate(model, puzzles))))
    results = [json.loads(line) for output in outputs for line in output]
    for result in (alone, *results):
        assert result.pop("puzzles_per_second") > 0
        drift = result.pop("drift_by_step")  # rounded as the batches are
        assert drift == pytest.approx(evaluate(model, puzzles).drift_by_step, abs=1e-5)
    assert results == [alone] * 6


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float):
    """Method 3 in table I of Newcombe 1998, Statistics in Medicine 17, 857-872."""
    assert wilson_interval(successes / trials, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(1 - successes / trials, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_interval_of_shares(quarters: list[int]):
    shares = torch.tensor(quarters, dtype=torch.float64) / 4
    mean = shares.mean().item()
    low, high = interval_of_shares(shares)
    assert 0 <= low <= mean <= high <= 1
    # Never wider than for shares of 0 and 1 with this mean, which vary the most
    widest = wilson_interval(mean, len(shares))
    assert widest[0] <= low + 1e-12 and high <= widest[1] + 1e-12
    extremes = (shares > 0.5).double()
    assert interval_of_shares(extremes) == pytest.approx(
        wilson_interval(extremes.mean().item(), len(extremes)), abs=1e-12
    )


def test_interval_of_many_shares_is_the_usual_one():
    shares = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = 1.959964 * shares.std().item() / math.sqrt(len(shares))
    expected = shares.mean().item() - reach, shares.mean().item() + reach
    assert interval_of_shares(shares) == pytest.approx(expected, abs=1e-5)


@given(
    st.lists(
        st.tuples(st.integers(0, 40) | st.floats(0, 5000, width=32), st.booleans()), min_size=1
    )
)
def test_ratings_are_grouped_into_ranges_that_double(rated: list[tuple[float, bool]]):
    expected: dict[str, list[bool]] = {}
    for rating, right in sorted(rated):
        low, end = 0, 1
        while not low <= rating < end:
            low, end = end, end + (end - 1 if end > 2 else 1)
        expected.setdefault(str(low) if end == low + 1 else f"{low}-{end - 1}", []).append(right)
    table = by_rating(
        torch.tensor([right for _, right in rated]),
        np.array([rating for rating, _ in rated], np.float32),
    )
    assert {part.ratings: part.puzzles for part in table} == {
        name: len(hits) for name, hits in expected.items()
    }
    for part in table:
        hits = expected[part.ratings]
        assert part.exact_accuracy == sum(hits) / len(hits)
        assert part.exact_interval == wilson_interval(part.exact_accuracy, len(hits))


def test_precision_and_recall(model: TRM, puzzles: PuzzleSet):
    q = evaluate(model, puzzles).q_calibration
    assert q.precision == q.sure_right / (q.sure_right + q.sure_wrong)
    assert q.recall == q.sure_right / (q.sure_right + q.unsure_right)
    assert replace(q, sure_right=0, sure_wrong=0).precision is None
    assert replace(q, sure_right=0, unsure_right=0).recall is None


def test_what_does_not_fit_is_refused(model: TRM, puzzles: PuzzleSet):
    def changed(**facts: int) -> PuzzleSet:
        return replace(puzzles, metadata=replace(puzzles.metadata, **facts))

    with pytest.raises(ValueError, match="7 cells and 5 tokens, the model is for 6 cells"):
        evaluate(model, changed(seq_len=7))
    with pytest.raises(ValueError, match="6 cells and 6 tokens, the model is for 6 cells"):
        evaluate(model, changed(vocab_size=6))
    foreign = replace(puzzles, puzzle_identifiers=puzzles.puzzle_identifiers + 1)
    with pytest.raises(ValueError, match="ids up to 4, the model knows those below 4"):
        evaluate(model, foreign)
    unlabelled = replace(puzzles, labels=np.full_like(puzzles.labels, IGNORED))
    with pytest.raises(ValueError, match="none of the puzzles has an answer"):
        evaluate(model, unlabelled)
    with pytest.raises(ValueError, match="max_steps must be at least 1, not 0"):
        evaluate(model, puzzles, max_steps=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        evaluate(model, puzzles, batch_size=0)


def test_drift_is_the_mean_movement_of_puzzles_alone(model: TRM, puzzles: PuzzleSet):
    drift = []
    for number in (n for n in range(COUNT) if n != 5):
        tokens = torch.as_tensor(puzzles.inputs[number])[None].int()
        ids = torch.tensor([int(puzzles.puzzle_identifiers[number])])
        states = [
            torch.cat([z.flatten() for z in step.state]).double()
            for step in think(model, tokens, ids, STEPS)
        ]
        drift.append([1.0] + [((b - a).norm() / b.norm()).item() for a, b in pairwise(states)])
    expected = np.mean(drift, axis=0)
    assert evaluate(model, puzzles, 8, STEPS).drift_by_step == pytest.approx(expected, abs=1e-5)
