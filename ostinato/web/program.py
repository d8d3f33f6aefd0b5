"""An H-cycle as a short list of instructions on numbers in one memory, for the page to run.

`torch.export` traces the model itself, so its mathematics has no second definition. What it finds
is lowered to seven instructions, which `page/tensors.js` carries out; views (slices, transposes)
cost nothing, and memory is used again as soon as a value is not needed any more.

    gather     rows of a table, by integers
    copy       from one strided view to another
    map        a function of every number: square, rsqrt, sigmoid, silu
    zip        add or multiply, with broadcasting (stride 0), also with a plain number
    mean       over the last axis, of the numbers or of their squares
    linear     x · weightᵀ
    attention  softmax(q · kᵀ / √dim) · v for every head
"""

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ostinato.models import RecursiveModel
from ostinato.web.memory import (
    COLUMNS,
    ROWS,
    Buffer,
    collapsed,
    pack,
    place_all,
    round_up,
    row_stride,
)
from ostinato.weights.onnx import HCycle, example_inputs

VIEWS = ("view", "transpose", "unsqueeze", "select", "slice", "split", "unbind", "detach", "expand")
"""Operations of PyTorch that only look at numbers in another way."""
FUNCTIONS = ("square", "rsqrt", "sigmoid", "silu")


@dataclass(frozen=True)
class View:
    """Hold the place of a value: its buffer, and a tensor without data for shape and strides."""

    buffer: int
    layout: Tensor


@dataclass(frozen=True)
class Program:
    """Instructions with places in a memory of `size` numbers; the first are `constants`."""

    size: int
    constants: Float[np.ndarray, " constants"]
    seams: list[int]
    """Hold the place where a constant begins."""
    instructions: list[dict[str, Any]]
    inputs: dict[str, int]
    """Place of tokens, puzzle_ids (integers), z_H and z_L, which the instructions renew."""
    outputs: dict[str, dict[str, Any]]
    """Place and strides of logits and q."""


def program_of(model: RecursiveModel) -> Program:
    """Return the instructions for one H-cycle of one puzzle. `model` has to be in float32.

    Raises ValueError if it does what there is no instruction for.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about itself
        traced = torch.export.export(HCycle(copy.deepcopy(model)), example_inputs(model, 1))
        traced = traced.run_decompositions({})
    lowering = Lowering()
    values: dict[str, Any] = {}
    constants: dict[Any, Any] = dict(traced.state_dict) | dict(traced.constants)
    for spec in traced.graph_signature.input_specs:
        name: Any = spec.arg.name
        if spec.target is None:  # what the caller gives
            values[name] = lowering.new(
                *next(n for n in traced.graph.nodes if n.name == name).meta["val"].shape
            )
        else:
            values[name] = constants[spec.target].detach().float()
    given: Any = traced.graph_signature.user_inputs
    inputs = [values[name] for name in given]
    for node in traced.graph.nodes:
        if node.op == "call_function":
            args = torch.fx.map_arg(node.args, lambda n: values[n.name])
            values[node.name] = lowering.lower(node, args)
    returned: Any = traced.graph_signature.user_outputs
    logits, q, z_H, z_L = (values[name] for name in returned)
    # Both are read before either is renewed
    fresh = [lowering.copied(z) for z in (z_H, z_L)]
    for old, new in zip(inputs[2:], fresh, strict=True):
        lowering.emit("copy", {"from": new, "to": old})
    return lowering.finish(
        dict(zip(("tokens", "puzzle_ids", "z_H", "z_L"), inputs, strict=True)),
        {"logits": logits, "q": q},
    )


class Lowering:
    """Turns the nodes of a traced graph into instructions, one after the other."""

    def __init__(self):
        self.buffers: list[Buffer] = []
        self.emitted: list[tuple[str, dict[str, Any]]] = []
        self.known: dict[tuple[int, bool], View] = {}

    def lower(self, node: torch.fx.Node, args: tuple) -> Any:
        """Return the value of a node; its arguments are views, tensors, numbers and lists."""
        name = getattr(node.target, "__name__", str(node.target)).partition(".")[0]
        if name == "getitem":
            return args[0][args[1]]
        if name == "_assert_tensor_metadata":
            return None
        if name in ("embedding", "index"):
            ids = args[1][0] if name == "index" else args[1]
            table = self.place(args[0])
            out = self.new(*ids.layout.shape, table.layout.shape[1])
            return self.emit("gather", {"table": table, "ids": ids, "to": out})
        if name in VIEWS:
            return self.view(node, self.place(args[0]), args[1:])
        if name == "new_zeros":
            return self.place(torch.zeros(args[1]))
        if name == "pad":
            return self.pad(self.place(args[0]), args[1])
        if name == "cat":
            return self.cat([self.place(part) for part in args[0]], args[1] if args[1:] else 0)
        if name == "stack":
            axis = args[1] if args[1:] else 0
            parts = [self.place(part) for part in args[0]]
            parts = [View(part.buffer, part.layout.unsqueeze(axis)) for part in parts]
            return self.cat(parts, axis)
        if name == "neg":
            return self.zip("mul", self.place(args[0]), -1.0)
        if name in ("add", "mul"):
            one, other = (a if isinstance(a, float | int) else self.place(a) for a in args)
            assert isinstance(one, View)
            return self.zip(name, one, other)
        if name in FUNCTIONS:
            source = self.place(args[0])
            out = self.new(*source.layout.shape)
            return self.emit("map", {"of": source, "to": out}, function=name)
        if name == "mean" and list(args[1]) == [-1] and args[2]:
            source: Any = node.args[0]
            return self.mean(self.place(args[0]), alone=len(source.users) == 1)
        if name == "linear":
            return self.linear(*args)
        if name == "scaled_dot_product_attention" and not args[3:] and not node.kwargs:
            return self.attention(*(self.place(arg) for arg in args))
        raise ValueError(
            f"the page has no instruction for {node.target}: run the model with ostinato solve"
        )

    def new(self, *shape: int, size: int | None = None) -> View:
        """Room for a value."""
        self.buffers.append(Buffer(size or math.prod(shape)))
        return View(len(self.buffers) - 1, torch.empty(shape, device="meta"))

    def place(self, value: View | Tensor, packed: bool = False) -> View:
        """Return the value, or the place of a constant; `packed` as the kernel reads a weight."""
        if isinstance(value, View):
            return value
        key = id(value), packed
        if key not in self.known:
            numbers = (pack(value) if packed else value).numpy().astype(np.float32)
            view = self.new(*numbers.shape)
            self.buffers[view.buffer].constant = numbers.ravel()
            self.known[key] = view
        return self.known[key]

    def emit(self, kind: str, views: dict[str, View], **numbers: Any) -> View:
        """Add an instruction; returns the view that it writes."""
        self.emitted.append((kind, {**views, **numbers}))
        return views["to"]

    def copied(self, view: View) -> View:
        return self.emit("copy", {"from": view, "to": self.new(*view.layout.shape)})

    def contiguous(self, view: View) -> View:
        return view if view.layout.is_contiguous() else self.copied(view)

    def view(self, node: torch.fx.Node, source: View, args: Sequence) -> Any:
        """Another look at the same numbers; `view` copies where strides cannot tell it."""
        operation: Any = node.target
        try:
            found = operation(source.layout, *args, **node.kwargs)
        except RuntimeError:
            source = self.copied(source)
            found = operation(source.layout, *args, **node.kwargs)
        if isinstance(found, Tensor):
            return View(source.buffer, found)
        return [View(source.buffer, part) for part in found]

    def pad(self, source: View, amounts: list[int]) -> View:
        """Zeros behind the last axis."""
        assert amounts[0] == 0 and len(amounts) == 2
        if amounts[1] == 0:
            return source
        zeros = torch.zeros(*source.layout.shape[:-1], amounts[1])
        return self.cat([source, self.place(zeros)], -1)

    def cat(self, parts: list[View], axis: int) -> View:
        sizes = [part.layout.shape[axis] for part in parts]
        shape = list(parts[0].layout.shape)
        shape[axis] = sum(sizes)
        out = self.new(*shape)
        for part, room in zip(parts, out.layout.split(sizes, axis), strict=True):
            self.emit("copy", {"from": part, "to": View(out.buffer, room)})
        return out

    def zip(self, function: str, one: View, other: View | float) -> View:
        if isinstance(other, float | int):
            out = self.new(*one.layout.shape)
            return self.emit("zip", {"of": one, "to": out}, function=function, number=float(other))
        shape = torch.broadcast_shapes(one.layout.shape, other.layout.shape)
        one, other = (View(v.buffer, v.layout.expand(shape)) for v in (one, other))
        out = self.new(*shape)
        return self.emit("zip", {"of": one, "and": other, "to": out}, function=function)

    def mean(self, source: View, alone: bool) -> View:
        """Over the last axis; of squares just computed that nobody else needs, in one go."""
        kind, operands = self.emitted[-1]
        squared = alone and kind == "map" and operands["function"] == "square"
        squared = squared and operands["to"] is source
        if squared:
            source = self.emitted.pop()[1]["of"]
        source = self.contiguous(source)
        out, width = self.new(*source.layout.shape[:-1], 1), source.layout.shape[-1]
        return self.emit("mean", {"of": source, "to": out}, width=width, squared=squared)

    def linear(self, x: View, weight: Tensor, bias: Tensor | None = None) -> View:
        *leading, inner = x.layout.shape
        rows, outer = math.prod(leading), len(weight)
        stride = row_stride(x.layout)
        if stride is None:
            x, stride = self.copied(x), inner
        wide = round_up(outer, COLUMNS)
        out = self.new(*leading, wide, size=round_up(rows, ROWS) * wide)
        panels = self.place(weight, packed=True)
        sizes = {"rows": rows, "inner": inner, "stride": stride, "columns": wide}
        self.emit("linear", {"of": x, "weight": panels, "to": out}, **sizes)
        out = View(out.buffer, out.layout[..., :outer])
        return out if bias is None else self.zip("add", out, self.place(bias))

    def attention(self, q: View, k: View, v: View) -> View:
        """Write the result as [length, heads, dim], as the projection behind it wants it."""
        _, heads, length, dim = q.layout.shape
        if dim % COLUMNS:
            raise ValueError(f"the page needs heads of a multiple of {COLUMNS}, not of {dim}")
        q, k, v = (view if view.layout.stride(-1) == 1 else self.copied(view) for view in (q, k, v))
        keys, rows = round_up(length, COLUMNS), round_up(length, ROWS)
        out = self.new(1, length, heads, dim, size=rows * heads * dim)
        scratch = self.new(keys * dim + length * dim + rows * keys)
        views = {"q": q, "k": k, "v": v, "to": out, "scratch": scratch}
        self.emit("attention", views, heads=heads, length=length, dim=dim)
        return View(out.buffer, out.layout.transpose(1, 2))

    def finish(self, inputs: dict[str, View], outputs: dict[str, View]) -> Program:
        """Give every buffer its place, and write places and strides into the instructions."""
        for number, (_, operands) in enumerate(self.emitted):
            for operand in operands.values():
                if isinstance(operand, View):
                    buffer = self.buffers[operand.buffer]
                    buffer.first = number if buffer.first < 0 else buffer.first
                    buffer.last = number
        for view in inputs.values():
            self.buffers[view.buffer].first = 0
        for view in (*inputs.values(), *outputs.values()):
            self.buffers[view.buffer].last = len(self.emitted)
        constants = [buffer for buffer in self.buffers if buffer.constant is not None]
        size = place_all(constants, 0, together=True)
        others = [buffer for buffer in self.buffers if buffer.constant is None]
        end = place_all(others, size, together=False)
        memory = np.zeros(size, np.float32)
        for buffer in constants:
            memory[buffer.offset :][: buffer.size] = buffer.constant
        instructions = []
        for kind, operands in self.emitted:
            views = {name: v for name, v in operands.items() if isinstance(v, View)}
            numbers = {name: v for name, v in operands.items() if not isinstance(v, View)}
            places = {name: self.start(view) for name, view in views.items()}
            if kind in ("copy", "map", "zip"):
                shape, *strides = collapsed([view.layout for view in views.values()])
                numbers |= {"shape": shape, "strides": dict(zip(views, strides, strict=True))}
            if kind == "attention":
                numbers["strides"] = {n: list(views[n].layout.stride()) for n in ("q", "k", "v")}
            if kind == "gather":
                numbers |= {
                    "width": views["to"].layout.shape[-1],
                    "count": views["ids"].layout.numel(),
                }
            if kind == "mean":
                numbers["count"] = views["to"].layout.numel()
            instructions.append({"kind": kind, **places, **numbers})
        found = {
            name: {
                "at": self.start(v),
                "shape": list(v.layout.shape),
                "strides": list(v.layout.stride()),
            }
            for name, v in outputs.items()
        }
        seams = [buffer.offset for buffer in constants]
        return Program(
            end, memory, seams, instructions, {n: self.start(v) for n, v in inputs.items()}, found
        )

    def start(self, view: View) -> int:
        return self.buffers[view.buffer].offset + int(view.layout.storage_offset())
