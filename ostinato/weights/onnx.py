"""Write a recursive model as an ONNX file: one H-cycle as a graph, which `onnx_model.py` runs.

fp16 and int8 are forms of the weights alone: onnxruntime widens them, and computes in float32.
int8 has a scale for every output of a matrix.
"""

import base64
import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ostinato.data.table import Table
from ostinato.data.tasks import task_named
from ostinato.files import atomic, make_folder
from ostinato.inference.pursuit import Question
from ostinato.inference.search import FIXED, Attempt
from ostinato.inference.stream import think_stream
from ostinato.models import RecursiveModel, State
from ostinato.weights.load import read_onnx
from ostinato.weights.onnx_model import INPUTS, OUTPUTS, OnnxModel
from ostinato.weights.save import METADATA_KEY, describe

Weights = Literal["fp32", "fp16", "int8"]
OPSET = 20
EARLY_EXIT = replace(FIXED, early_exit=True)
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1.0}
"""Largest difference of a logit after one H-cycle, relative to the largest logit."""
SMALLEST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}
"""Mean cosine between the states of file and model after a supervision step."""
LOST = 0.01
"""Share of the puzzles by which the file may solve fewer than the model or, in fp32, may answer in
another way where the model is sure."""


class HCycle(nn.Module):
    """Run one H-cycle of a model, as a function of tensors alone."""

    def __init__(self, model: RecursiveModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        puzzle_ids: Int[Tensor, " batch"],
        z_H: Float[Tensor, "batch length dim"],
        z_L: Float[Tensor, "batch length dim"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        state, output = self.model(State(z_H, z_L), tokens, puzzle_ids, H_cycles=1)
        heads = [q for q in (output.q_halt, output.q_continue) if q is not None]
        return output.logits, torch.stack(heads, dim=1), state.z_H, state.z_L


def example_inputs(model: RecursiveModel, batch: int) -> tuple[Tensor, ...]:
    """Return inputs of `HCycle`, to trace it with."""
    tokens = torch.zeros(batch, model.config.seq_len, dtype=torch.int64)
    state = model.initial_state(batch)
    ids = torch.zeros(batch, dtype=torch.int64)
    return tokens, ids, state.z_H.contiguous(), state.z_L.contiguous()


@dataclass(frozen=True)
class OnnxAgreement:
    """Measure how well a file agrees with its model."""

    error: float
    """Largest difference of a logit after one H-cycle, relative to the largest logit."""
    cosine: float
    """Mean cosine between the states of file and model after a supervision step."""
    puzzles: int
    same: int
    """Puzzles to which both give the same answer, with early exit. Answers that the model does not
    halt on may differ: there the states wander, and roundings decide where to."""
    sure: tuple[int, int]
    """Puzzles whose answer the model halts on, and to how many of them both give the same one."""
    solved: tuple[int, int] | None
    """Puzzles that model and file solve; None if the rules are not known."""

    def __str__(self) -> str:
        text = (
            f"largest logit error {self.error:.1e}, cosine of the states {self.cosine:.6f}, "
            f"{self.same} of {self.puzzles} answers the same, {self.sure[1]} of the "
            f"{self.sure[0]} that the model is sure of"
        )
        if self.solved is not None:
            text += f", {self.solved[1]} solved where the model solves {self.solved[0]}"
        return text


def export_onnx(
    model: RecursiveModel,
    path: Path,
    puzzles: Int[Tensor, "puzzles seq"],
    weights: Weights = "fp32",
    **notes: Any,
) -> OnnxAgreement:
    """Write a model to `path`, then compare the file with it on whole answers to `puzzles`.

    Raises ValueError if a package is missing, or if the file differs more than its form may: then
    nothing is left at `path`.
    """
    try:
        import onnx  # noqa: F401 - torch.onnx needs both
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "writing ONNX needs onnx and onnxscript: pip install 'ostinato[export]'"
        ) from error
    if not model.is_plain:
        raise ValueError("the graph has no random starts, damping or noise: use safetensors")
    model = in_float32(model)
    graph = traced(model)
    if weights != "fp32":
        narrow(graph, weights)
    for key, value in metadata(model, weights, notes).items():
        graph.metadata_props.add(key=key, value=value)
    graph.producer_name = "ostinato"
    make_folder(path.parent)
    with atomic(path) as file:
        file.write(graph.SerializeToString())
        file.flush()
        agreement = compare(read_onnx(Path(file.name)), model, puzzles)
        check(agreement, weights)
    return agreement


def in_float32(model: RecursiveModel) -> RecursiveModel:
    """Return the same weights, computed with in float32 on the CPU."""
    if model.config.forward_dtype == "float32" and model.H_init.device.type == "cpu":
        return model
    twin = type(model)(replace(model.config, forward_dtype="float32"))
    twin.load_state_dict({name: tensor.float() for name, tensor in model.state_dict().items()})
    return twin.eval()


def traced(model: RecursiveModel) -> Any:
    """Return the H-cycle as an ONNX ModelProto in float32, for any batch size."""
    batch = torch.export.Dim("batch", min=1, max=65536)
    logging.disable(logging.WARNING)  # the exporter warns of packages that it does not need
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            HCycle(copy.deepcopy(model)),
            example_inputs(model, 2),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: batch},) * len(INPUTS),
            input_names=INPUTS,
            output_names=OUTPUTS,
            verbose=False,
        )
    logging.disable(logging.NOTSET)
    assert program is not None
    graph = program.model_proto
    batches = [value.type.tensor_type.shape.dim[0].dim_param for value in graph.graph.input]
    assert all(batches), "the trace has fixed the batch size"
    del graph.graph.value_info[:]
    for node in graph.graph.node:  # remove stack traces, which hold paths of this machine
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return graph


def narrow(graph: Any, weights: Weights) -> None:
    """Hold the matrices of `graph` in fewer bits, and widen them by a node each."""
    from onnx import helper, numpy_helper

    outputs = output_axes(graph)
    kept, added, nodes = [], [], []
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim < 2 or values.dtype != np.float32:
            kept.append(tensor)
            continue
        narrowed, scales = f"{tensor.name}.{weights}", f"{tensor.name}.scale"
        if weights == "int8" and tensor.name in outputs:
            axis = outputs[tensor.name]
            scale = np.abs(values).max(1 - axis, keepdims=True).clip(1e-12) / 127
            codes = np.rint(values / scale).astype(np.int8)
            added.append(numpy_helper.from_array(codes, narrowed))
            added.append(numpy_helper.from_array(scale.ravel(), scales))
            inputs = [narrowed, scales]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [tensor.name], axis=axis))
        else:
            added.append(numpy_helper.from_array(values.astype(np.float16), narrowed))
            nodes.append(helper.make_node("Cast", [narrowed], [tensor.name], to=1))
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept + added)
    computed = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes + computed)


def output_axes(graph: Any) -> dict[str, int]:
    """Return the axis of outputs of each matrix that something is multiplied with.

    The exporter transposes small weights itself, and leaves the others to a node.
    """
    axes = {}
    for node in graph.graph.node:
        if node.op_type == "Transpose":
            axes[node.input[0]] = 0
        elif node.op_type in ("MatMul", "Gemm"):
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            axes[node.input[1]] = 0 if transposed else 1
    return axes


def metadata(model: RecursiveModel, weights: Weights, notes: dict[str, Any]) -> dict[str, str]:
    """Return what a runtime needs to know besides the graph, and notes for people."""
    config = model.config
    side = round(config.seq_len**0.5)
    found = {
        METADATA_KEY: json.dumps(describe(model, **notes)),
        "task": config.task,
        "canvas": f"{side}x{side}" if side**2 == config.seq_len else f"1x{config.seq_len}",
        "cycles": f"a supervision step is {config.H_cycles} runs of this graph",
        "max_steps": str(config.halt_max_steps),
        "halting": "q[0] > 0" if config.no_ACT_continue else "q[0] > q[1]",
        "weights": weights,
        "sha256": hash_of(model),
        "H_init": encoded(model.H_init),
        "L_init": encoded(model.L_init),
    }
    if config.task:
        task = task_named(config.task)
        found["symbols"] = (
            json.dumps(task.symbols)
            if isinstance(task, Table)
            else "".join(task.format(np.array([t])) for t in range(task.vocab_size))
        )
    return found


def hash_of(model: RecursiveModel) -> str:
    """Return the SHA-256 of the weights, in float32 and in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def encoded(vector: Float[Tensor, " dim"]) -> str:
    """Return a vector of float32 in base64."""
    return base64.b64encode(vector.float().cpu().numpy().astype("<f4").tobytes()).decode()


@torch.no_grad()
def compare(
    file: OnnxModel, model: RecursiveModel, puzzles: Int[Tensor, "puzzles seq"]
) -> OnnxAgreement:
    """Think about `puzzles` with both, with early exit."""
    first = puzzles[:16]
    ids = torch.zeros(len(first), dtype=torch.int32)
    both = [(each, each.initial_state(len(first))) for each in (file, model)]
    logits = [each(start, first, ids, H_cycles=1)[1].logits for each, start in both]
    states = [torch.cat(each(start, first, ids)[0], dim=1).flatten(1) for each, start in both]
    has_rules = bool(model.config.task) and task_named(model.config.task).has_rules
    found = [list(answers_of(each, puzzles)) for each in (model, file)]
    same = [bool((a.answer == b.answer).all()) for (a, _), (b, _) in zip(*found, strict=True)]
    sure = [attempt.accepted for attempt, _ in found[0]]
    solved = [sum(keeps_rules for _, keeps_rules in each) for each in found]
    return OnnxAgreement(
        error=((logits[0] - logits[1]).abs().max() / logits[1].abs().max()).item(),
        cosine=torch.cosine_similarity(states[0].double(), states[1].double()).mean().item(),
        puzzles=len(puzzles),
        same=sum(same),
        sure=(sum(sure), sum(np.logical_and(same, sure).tolist())),
        solved=(solved[0], solved[1]) if has_rules else None,
    )


def answers_of(
    model: RecursiveModel, puzzles: Int[Tensor, "puzzles seq"]
) -> Iterator[tuple[Attempt, bool]]:
    """Yield the attempt at every puzzle, and whether it keeps the rules, if they are known."""
    task = task_named(model.config.task) if model.config.task else None
    questions = (Question(tokens.to(torch.int32)) for tokens in puzzles)
    for thought in think_stream(model, questions, EARLY_EXIT):
        attempt = thought.attempt
        yield attempt, task is not None and task.check(thought.tokens, attempt.answer) is None


def check(agreement: OnnxAgreement, weights: Weights) -> None:
    """ValueError if a file differs more from its model than its form may."""
    finite = agreement.error <= TOLERANCE[weights] and agreement.cosine >= SMALLEST_COSINE[weights]
    lost = agreement.solved[0] - agreement.solved[1] if agreement.solved else 0
    if weights == "fp32":
        lost = max(lost, agreement.sure[0] - agreement.sure[1])
    if not finite or lost > max(1, LOST * agreement.puzzles):
        remedy = "this is a fault, please report it"
        if weights != "fp32":
            remedy = "choose a wider form with --weights"
        raise ValueError(f"{weights} does not hold the model: {agreement}; {remedy}")
