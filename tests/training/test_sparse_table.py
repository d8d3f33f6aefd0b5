"""The puzzle table: its update rule, and that a step costs the same however long the table is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ostinato.data.batches import Batch
from ostinato.data.sudoku import SudokuData
from ostinato.layers import SparseEmbedding
from ostinato.models import RecursiveConfig
from ostinato.training.checkpoint import save_checkpoint
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.losses import act_loss
from ostinato.training.optimizers import SparseSignSGD
from ostinato.training.puzzles import train_step
from ostinato.training.slots import target_q_continue
from ostinato.training.state import TrainState
from tests.tiny import tiny_config

SHAPE = {"puzzle_emb_ndim": 24, "puzzle_emb_len": 2, "halt_max_steps": 3}
IDS = [5, 2, 5, 0, 2, 5, 9, 7]
"""Ids of a batch: some occur more than once."""


def models(rows: int) -> dict[str, RecursiveConfig]:
    return {n: tiny_config(n, **SHAPE, num_puzzle_identifiers=rows) for n in ("trm", "hrm")}


def start(model: RecursiveConfig, **training) -> tuple[Recipe, TrainState]:
    settings = {
        "global_batch_size": len(IDS),
        "lr": 1e-3,
        "puzzle_emb_lr": 0.25,
        "puzzle_emb_weight_decay": 0.5,
        "warmup_steps": 1,
        "halt_exploration_prob": 0.0,
        **training,
    }
    recipe = Recipe("tiny", model, SudokuData(size=4), TrainingConfig(**settings))
    state = TrainState.start(recipe, torch.device("cpu"), World())
    assert state.model.puzzle_emb is not None
    state.model.puzzle_emb.weights.normal_(generator=torch.Generator().manual_seed(5))
    return recipe, state


def batch(ids: list[int]) -> Batch:
    draw = torch.Generator().manual_seed(6)
    inputs, labels = torch.randint(0, 6, (2, len(ids), 16), generator=draw, dtype=torch.int32)
    return Batch(inputs, labels, torch.tensor(ids, dtype=torch.int32))


HALVES = st.integers(-8, 8).map(lambda n: n / 2)
"""Their sums are exact, and often zero."""


@st.composite
def updates(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """A table, the ids of a batch, the gradients of their copies, learning rate and decay."""
    rows, dim, size = (draw(st.integers(1, n)) for n in (6, 3, 12))

    def numbers(kind: st.SearchStrategy, *shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        return torch.tensor(draw(st.lists(kind, min_size=count, max_size=count))).view(shape)

    ids = numbers(st.integers(0, rows - 1), size)
    rates = st.sampled_from([0.0, 0.125, 0.5])
    return numbers(HALVES, rows, dim), ids, numbers(HALVES, size, dim), draw(rates), draw(rates)


@given(updates())
def test_update_is_the_plain_rule(update: tuple[Tensor, Tensor, Tensor, float, float]):
    table, ids, gradients, lr, decay = update
    embedding = SparseEmbedding(*table.shape)
    embedding.weights.copy_(table)
    SparseSignSGD(embedding, lr, decay).step(ids, gradients)

    for row, values in enumerate(table.tolist()):
        for column, value in enumerate(values):
            if row in ids:
                slope = sum(gradients[ids == row, column].tolist())
                sign = (slope > 0) - (slope < 0)
                value = value * (1 - lr * decay) - lr * sign
            assert embedding.weights[row, column].item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", ["trm", "hrm"])
def test_training_step_is_that_of_a_dense_table(name: str):
    """Autograd through the whole table sums duplicates by itself; then decay, then the sign."""
    recipe, state = start(models(12)[name], lr=0.0, weight_decay=0.0)
    model, given = state.model, batch(IDS)
    assert model.puzzle_emb is not None
    before = model.puzzle_emb.weights.clone()
    dense = before.clone().requires_grad_()
    rows = dense[given.puzzle_ids]
    slots = state.slots.refill(given, state.initial_state())
    thought, output = model(slots.state, slots.inputs, slots.puzzle_ids, rows)
    slots = slots.advance(thought, output, model.config)
    target = None
    if name == "hrm":
        with torch.no_grad():
            _, following = model(thought, slots.inputs, slots.puzzle_ids, rows)
        target = target_q_continue(following, slots.steps, model.config.halt_max_steps)
    (act_loss(output, slots, recipe.training.loss_type, target)[0] / len(IDS)).backward()
    assert dense.grad is not None

    train_step(state, recipe, given)
    touched = sorted(set(IDS))
    others = [row for row in range(12) if row not in touched]
    expected = before * (1 - 0.25 * 0.5) - 0.25 * dense.grad.sign()
    assert (dense.grad[touched] != 0).any()
    assert torch.allclose(model.puzzle_emb.weights[touched], expected[touched], rtol=0, atol=1e-6)
    assert torch.equal(model.puzzle_emb.weights[others], before[others])


@pytest.mark.parametrize("name", ["trm", "hrm"])
def test_without_copies_the_table_is_read(name: str):
    _, state = start(models(12)[name])
    model, given = state.model.eval(), batch(IDS)
    assert model.puzzle_emb is not None

    def logits(rows: Tensor | None) -> Tensor:
        with torch.no_grad():
            initial = model.initial_state(len(IDS))
            return model(initial, given.inputs, given.puzzle_ids, rows)[1].logits

    rows = model.puzzle_emb.copy_rows(given.puzzle_ids)
    assert rows.is_leaf and rows.requires_grad
    with_copies = logits(rows)
    assert torch.equal(logits(None), with_copies)
    model.puzzle_emb.weights[9] += 1
    changed = (logits(None) != with_copies).flatten(1).any(1)
    assert changed.tolist() == [id == 9 for id in IDS]
    assert torch.equal(logits(rows), with_copies), "the copies follow the table"


class Largest(TorchDispatchMode):
    """Notes the most numbers in any tensor that an operation makes, views of `table` aside."""

    def __init__(self, table: Tensor):
        super().__init__()
        self.table, self.numbers, self.operation = table.untyped_storage().data_ptr(), 0, ""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() != self.table:
                self.numbers = max(self.numbers, tensor.numel())
                if self.numbers == tensor.numel():
                    self.operation = str(function)
        return result


@pytest.mark.parametrize("name", ["trm", "hrm"])
def test_no_step_makes_anything_as_large_as_the_table(name: str, tmp_path: Path):
    """Nor do evaluation with averaged weights, and collecting a checkpoint."""
    recipe, state = start(models(100_000)[name], ema_decay=0.9)
    assert state.model.puzzle_emb is not None and state.ema is not None
    with Largest(state.model.puzzle_emb.weights) as largest:
        for _ in range(4):
            train_step(state, recipe, batch(IDS))
        with state.ema.applied(), torch.no_grad():
            state.model(state.model.initial_state(len(IDS)), *batch(IDS)[::2])
        save_checkpoint(tmp_path / "checkpoint.safetensors", state.tree())
    assert 0 < largest.numbers < 100_000, largest.operation  # fewer than it has rows

    with Largest(state.model.puzzle_emb.weights) as largest:  # the check can fail
        state.model.puzzle_emb.weights.sign()
    assert largest.numbers == 100_000 * 24


MEASURE = """
import json, resource, statistics, sys, tempfile, time
from pathlib import Path
import torch
from ostinato.data.batches import Batch
from ostinato.data.sudoku import SudokuData
from ostinato.models import TRMConfig
from ostinato.training.checkpoint import save_checkpoint
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.puzzles import train_step
from ostinato.training.state import TrainState

rows, dim, steps, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
model = TRMConfig(
    vocab_size=12, seq_len=81, hidden_size=128, num_heads=4, H_cycles=2, L_cycles=2,
    puzzle_emb_ndim=dim, puzzle_emb_len=4, num_puzzle_identifiers=rows, forward_dtype="float32",
)
training = TrainingConfig(global_batch_size=16)
recipe = Recipe("measure", model, SudokuData(), training)
state = TrainState.start(recipe, torch.device("cpu"), World())
draw = torch.Generator().manual_seed(0)
seconds = []
for _ in range(steps):
    inputs, labels = torch.randint(0, 12, (2, 16, 81), generator=draw, dtype=torch.int32)
    ids = torch.randint(0, rows, (16,), generator=draw, dtype=torch.int32)
    begin = time.process_time()
    train_step(state, recipe, Batch(inputs, labels, ids))
    seconds.append(time.process_time() - begin)
save_checkpoint(Path(folder) / "checkpoint.safetensors", state.tree())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({
    "rows": rows,
    "table_mb": state.model.puzzle_emb.weights.nbytes / 1e6,
    "peak_beyond_table_mb": (peak - state.model.puzzle_emb.weights.nbytes) / 1e6,
    "median_step_cpu_ms": 1e3 * statistics.median(seconds[2:]),
}))
"""


@pytest.mark.slow
def test_measure_a_long_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """CPU time of a step, and memory beside the table, at a thousand and a million ids.

    Writing a checkpoint is included. The times are for the lab book (`pytest -m slow -k long_table
    -s`); memory is checked.
    """
    results = []
    for rows in (10**3, 10**6):
        command = [sys.executable, "-c", MEASURE, str(rows), "64", "20", str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        results.append(json.loads(run.stdout))
    with capsys.disabled():
        print("", *results, sep="\n")
    few, many = results
    assert many["table_mb"] == 256.0
    # A tenth of the table: nothing holds a second one, not even for a moment
    assert many["peak_beyond_table_mb"] - few["peak_beyond_table_mb"] < 25.6
