"""`think` against the model's steps taken by hand, and what it leaves behind."""

import pytest
import torch

import ostinato
from ostinato.data import sudoku
from ostinato.inference.think import think, usual_batch_size
from ostinato.layers import Linear
from ostinato.models import TRM, TRMConfig
from ostinato.verify.specimens import MODELS, batch, some_state, specimen
from tests.inference.stand_in import LookUp

PUZZLE = ".1..3..12..4..3."
CONFIG = {
    "vocab_size": 6,
    "seq_len": 16,
    "hidden_size": 32,
    "num_heads": 2,
    "H_cycles": 2,
    "L_cycles": 2,
    "puzzle_emb_ndim": 32,
    "puzzle_emb_len": 1,
    "num_puzzle_identifiers": 3,
    "halt_max_steps": 5,
    "forward_dtype": "float32",
}


def random_model(task: str = "sudoku4") -> TRM:
    """A model with no zeros in it, so that all of its inputs count.

    Its network is tame: a rounding, which depends on the batch on some processors, stays small.
    """
    model = TRM(TRMConfig(task=task, **CONFIG), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in [*model.parameters(), *model.buffers()]:
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for parameter in model.L_level.parameters():
            parameter *= 0.65
    return model.eval()


@pytest.fixture(scope="module")
def model() -> TRM:
    return random_model()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    puzzles, _ = sudoku.generate(sudoku.Sudoku(4), 6, (4, 8), seed=0)
    return torch.from_numpy(puzzles).to(torch.int32)


def test_steps_are_the_models_own(model, tokens):
    ids = torch.tensor([0, 1, 2, 0, 1, 2], dtype=torch.int32)
    state = model.initial_state(6)
    steps = list(think(model, tokens, ids, max_steps=3))
    assert [step.number for step in steps] == [1, 2, 3]
    for step in steps:
        with torch.no_grad():
            state, output = model(state, tokens, ids)
        assert step.output.logits.equal(output.logits)
        assert step.q_halt.equal(output.q_halt)
        assert step.state.z_H.equal(state.z_H) and step.state.z_L.equal(state.z_L)
        assert step.answer.equal(output.logits.argmax(dim=2))
    assert not steps[0].output.logits.equal(steps[2].output.logits)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_the_sum_of_its_h_cycles(name):
    """To the last bit: so early exit may read the answer between them."""
    model = specimen(name).eval()
    puzzles = batch(model)
    whole = parts = some_state(model)
    for _ in range(2):
        whole, expected = model(whole, puzzles.inputs, puzzles.puzzle_ids)
        for _ in range(model.config.H_cycles):
            parts, output = model(parts, puzzles.inputs, puzzles.puzzle_ids, H_cycles=1)
        assert parts.z_H.equal(whole.z_H) and parts.z_L.equal(whole.z_L)
        assert output.logits.equal(expected.logits) and output.q_halt.equal(expected.q_halt)


def test_as_many_steps_as_in_training_by_default(model):
    assert len(list(think(model, PUZZLE))) == 5
    assert len(list(think(model, PUZZLE, max_steps=9))) == 9


def test_puzzles_are_of_id_0_by_default(model, tokens):
    ids = [torch.full((6,), number, dtype=torch.int32) for number in (0, 1)]
    by_default, zeros, ones = (
        next(think(model, tokens, puzzle_ids)).output.logits for puzzle_ids in (None, *ids)
    )
    assert by_default.equal(zeros)
    assert not by_default.allclose(ones, atol=1e-3)


def test_text_and_tokens_are_the_same(model):
    written = torch.tensor([[{".": 1}.get(c) or int(c) + 1 for c in PUZZLE]])
    for a, b in zip(think(model, PUZZLE), think(model, written), strict=True):
        assert a.output.logits.equal(b.output.logits)


def test_puzzles_of_a_batch_do_not_touch_each_other(model, tokens):
    together = list(think(model, tokens))[-1].output.logits
    for row, puzzle in enumerate(tokens):
        alone = list(think(model, puzzle[None]))[-1].output.logits[0]
        assert (together[row] - alone).abs().max() < 1e-4


@pytest.mark.parametrize("enabled", [True, False])
def test_the_callers_gradients_are_left_alone(model, tokens, enabled):
    with torch.set_grad_enabled(enabled):
        thoughts = think(model, tokens)
        for _, step in zip(range(2), thoughts, strict=False):  # and abandons the rest
            assert torch.is_grad_enabled() is enabled
            assert not step.output.logits.requires_grad and not step.state.z_H.requires_grad
        del thoughts
        assert torch.is_grad_enabled() is enabled


def test_no_step_is_taken_before_it_is_asked_for():
    model = LookUp()
    thoughts = think(model, PUZZLE)
    assert model.calls == 0
    for taken in (1, 2):
        next(thoughts)
        assert model.calls == taken


def test_on_a_cpu_the_caches_limit_the_batch():
    """By the bytes that its linear layers really put out."""
    assert usual_batch_size(LookUp()) == 512
    shape = {"hidden_size": 256, "H_cycles": 1, "L_cycles": 1, "forward_dtype": "float32"}
    model = TRM(TRMConfig(**shape, mlp_t=True, pos_encodings="none"))
    put_out: list[int] = []
    for module in model.modules():
        if isinstance(module, Linear):
            module.register_forward_hook(lambda *args: put_out.append(args[-1].nbytes))
    next(think(model, torch.ones(2, 81, dtype=torch.int32)))
    puzzle = max(put_out) / 2
    assert 8 * 2**20 < puzzle * usual_batch_size(model) <= 16 * 2**20
    assert usual_batch_size(model.to("meta")) == 512, "not a CPU"


@pytest.mark.parametrize(
    ("puzzle", "max_steps", "message"),
    [
        (PUZZLE, 0, "max_steps must be at least 1, not 0"),
        ("12", None, "needs 16 characters"),
        ("." * 81, None, r"81 characters is a sudoku9.*trained on sudoku4 \(16 characters\)"),
        ("11" + "." * 14, None, "digit 1 stands twice in row 1"),
        (torch.ones(2, 81, dtype=torch.int32), None, r"shape \[batch, 16\], not \[2, 81\]"),
        (torch.full((2, 16), 6), None, "tokens 0 to 5: 6 to 6 were given"),
        (torch.full((2, 16), -1), None, "tokens 0 to 5: -1 to -1 were given"),
    ],
)
def test_what_does_not_fit(model, puzzle, max_steps, message):
    with pytest.raises(ValueError, match=message):
        next(think(model, puzzle, max_steps=max_steps))


def test_a_model_of_tokens_only_cannot_read():
    model = random_model(task="")
    with pytest.raises(ValueError, match="give it token rows"):
        next(think(model, PUZZLE))
    step = next(think(model, torch.ones(1, 16, dtype=torch.int32)))
    assert str(step).startswith("step 1: ") and "\n" not in str(step)


def test_a_printed_step():
    steps = list(ostinato.think(LookUp(), PUZZLE))
    assert str(steps[1]) == "\n".join(
        ["step 2: 100% sure", "4 1 │ 2 3", "3 2 │ 4 1", "────┼────", "2 3 │ 1 4", "1 4 │ 3 2"]
    )
    batch = next(think(LookUp(), torch.ones(7, 16, dtype=torch.int32)))
    lines = str(batch).splitlines()
    assert lines[0] == "step 1, puzzle 1 of 7: 0% sure"
    assert [line for line in lines if "puzzle" in line][-1].startswith("step 1, puzzle 4 of 7")
    assert lines[-1] == "… and 3 more"
