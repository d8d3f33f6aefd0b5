"""The loss of a supervision step and what is logged of it."""

import torch
from torch import Tensor

from ostinato.models import Output, State
from ostinato.training.distributed import World
from ostinato.training.losses import act_loss, stablemax
from ostinato.training.puzzles import mean_metrics
from ostinato.training.slots import Slots
from ostinato.verify import reference
from ostinato.verify.check import apart, check, relatively_apart

TITLE = "Loss"
EDGES = [1.0, 0.0, -0.0, -1e-8, 1e-8, -1.0, 30.0, -30.0, 1e4, -1e4, 2.0, 0.5]
"""Logits where the branches of stablemax meet, where its unused one is infinite, and far out."""


def case(dtype: torch.dtype = torch.float64) -> tuple[Output, Slots]:
    """Twelve slots in all combinations of right and wrong, labelled or not, halted or not."""
    generator = torch.Generator().manual_seed(0)
    shape = (12, 5, 6)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    logits[0, 0] = torch.tensor(EDGES[:6])
    labels = torch.randint(6, shape[:2], generator=generator, dtype=torch.int32)
    labels[4:8] = logits[4:8].argmax(-1).int()  # right
    labels[torch.rand(shape[:2], generator=generator) < 0.3] = -100
    labels[8:10] = -100  # without labels
    q = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    output = Output(logits.to(dtype).requires_grad_(), q[0].to(dtype).requires_grad_(), q[1])
    halted = torch.arange(12) % 2 == 0
    steps = (torch.arange(12) % 4 + 1).int()
    empty = torch.zeros(12, 1, 1)
    state = State(empty, empty)
    return output, Slots(state, steps, halted, labels, labels, torch.zeros(12).int())


def both_q(output: Output) -> Tensor:
    """Halt and continue side by side, as the reference has them."""
    assert output.q_continue is not None
    return torch.stack([output.q_halt, output.q_continue], dim=1)


@check("Stablemax", "000 001", "x + 1 above 0, 1/(1 - x) below, normalised", 1e-12)
def stablemax_values() -> float:
    """Log-probabilities of random and of extreme logits, against float64."""
    rows = torch.arange(600, dtype=torch.float64).view(50, 12)
    x = torch.cat([5 * rows.square().cos(), torch.tensor([EDGES])])
    return relatively_apart(stablemax(x).log(), reference.log_stablemax(x))


@check("Gradient of stablemax", "000 001", "finite at a logit of 1.0, where fp32 overflows", 1e-5)
def stablemax_gradient() -> float:
    """Relative difference of fp32 gradients at extreme logits from float64 ones."""
    found = 0.0
    for chosen in range(len(EDGES)):
        ours = torch.tensor(EDGES, dtype=torch.float32, requires_grad=True)
        exact = torch.tensor(EDGES, dtype=torch.float64, requires_grad=True)
        stablemax(ours)[chosen].log().backward()
        reference.log_stablemax(exact)[chosen].backward()
        assert ours.grad is not None and exact.grad is not None
        found = max(found, relatively_apart(ours.grad, exact.grad))
    return found


@check(
    "Token loss",
    "000 001 002",
    "divided by the number of labels of its sequence, summed; -100 is ignored",
    1e-10,
)
def token_loss() -> float:
    """Stablemax and softmax, sequence by sequence, and the gradient of the logits."""
    found = 0.0
    for loss_type in ("stablemax_cross_entropy", "softmax_cross_entropy"):
        output, slots = case()
        _, metrics = act_loss(output, slots, loss_type)
        loss, _ = act_loss(output, slots, loss_type, q_weight=0.0)
        loss.backward()
        logits = output.logits.detach().clone().requires_grad_()
        softmax = loss_type.startswith("softmax")
        expected = reference.losses(logits, slots.labels, both_q(output), None, softmax)["lm"]
        expected.backward()
        assert output.logits.grad is not None and logits.grad is not None
        found = max(found, apart(metrics["lm_loss"], expected))
        found = max(found, apart(output.logits.grad, logits.grad))
    return found


@check(
    "Loss over all slots", "000 002 004", "every slot counts at every step, halted or not", 1e-10
)
def all_slots() -> float:
    """The total, with none, half and all of the slots halted, against the sum over slots."""
    output, slots = case()
    parts = reference.losses(output.logits, slots.labels, both_q(output), None)
    expected, found = parts["lm"] + 0.5 * parts["halt"], 0.0
    for halted in (slots.halted, slots.halted | True, slots.halted & False):
        now = Slots(slots.state, slots.steps, halted, slots.inputs, slots.labels, slots.puzzle_ids)
        found = max(found, apart(act_loss(output, now)[0], expected))
    return found


@check("Target of q_halt", "000 002 004", "every label right now; without labels: right", 1e-10)
def halt_loss() -> float:
    """The summed binary cross-entropy, against float64."""
    output, slots = case()
    expected = reference.losses(output.logits, slots.labels, both_q(output), None)["halt"]
    return apart(act_loss(output, slots)[1]["q_halt_loss"], expected)


@check("Loss of q_continue", "004", "summed binary cross-entropy, weight 0.5 like q_halt's", 1e-10)
def continue_loss() -> float:
    """Its value and the total, against float64."""
    output, slots = case()
    target = torch.linspace(0.05, 0.95, 12, dtype=torch.float64)
    loss, metrics = act_loss(output, slots, "stablemax_cross_entropy", target)
    parts = reference.losses(output.logits, slots.labels, both_q(output), target)
    total = parts["lm"] + 0.5 * (parts["halt"] + parts["continue"])
    return max(apart(metrics["q_continue_loss"], parts["continue"]), apart(loss, total))


@check("Logged accuracies", "002", "of slots that halted at this step and have a label", 1e-6)
def logged() -> float:
    """Count, cell and exact accuracy, q accuracy and steps, slot by slot, and their means."""
    output, slots = case()
    expected = dict.fromkeys(("count", "accuracy", "exact", "q_halt", "steps"), 0.0)
    for b in range(12):
        labels, answer = slots.labels[b], output.logits[b].argmax(-1)
        valid = [t for t in range(5) if labels[t] != -100]
        if not valid or not slots.halted[b]:
            continue
        right = [bool(labels[t] == answer[t]) for t in valid]
        expected["count"] += 1
        expected["accuracy"] += sum(right) / len(right)
        expected["exact"] += all(right)
        expected["q_halt"] += (output.q_halt[b].item() >= 0) == all(right)
        expected["steps"] += slots.steps[b].item()
    metrics = act_loss(output, slots)[1]
    names = {"exact": "exact_accuracy", "q_halt": "q_halt_accuracy"}
    ours = (metrics[f"halted_{names.get(name, name)}"] for name in expected)
    found = max(apart(a, b) for a, b in zip(ours, expected.values(), strict=True))

    means = mean_metrics(metrics | {"examples": torch.tensor(12)}, World())
    count = expected.pop("count")
    wished = {f"halted_{names.get(name, name)}": x / count for name, x in expected.items()}
    wished |= {"halted_share": count / 12, "lm_loss": metrics["lm_loss"].item() / 12}
    return max(found, *(apart(means[f"train/{name}"], x) for name, x in wished.items()))
