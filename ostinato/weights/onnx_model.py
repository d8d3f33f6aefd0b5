"""A recursive model in an ONNX file: onnxruntime computes the H-cycles, all else stays as it is.

The graph is one H-cycle with the states as inputs and outputs, so `think` and everything above it
(early exit, searches, evaluation) run such a model like any other.
"""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ostinato.layers import REPLACE, Relaxation, SparseEmbedding
from ostinato.models import Output, RecursiveConfig, RecursiveModel, State
from ostinato.weights.memory import without_memory

SUFFIX = ".onnx"
INPUTS = ("tokens", "puzzle_ids", "z_H", "z_L")
OUTPUTS = ("logits", "q", "next_z_H", "next_z_L")


class OnnxModel(RecursiveModel):
    """Runs the H-cycles of an ONNX file that `ostinato export` wrote, on the CPU in float32."""

    def __init__(self, path: Path, session: Any, config: RecursiveConfig):
        """Raises ValueError if the file lacks the start of the states."""
        nn.Module.__init__(self)
        self.path, self.session, self.config = path, session, config
        metadata = session.get_modelmeta().custom_metadata_map
        for name in ("H_init", "L_init"):
            try:
                vector = np.frombuffer(base64.b64decode(metadata[name]), "<f4").copy()
                self.register_buffer(name, torch.from_numpy(vector).reshape(config.hidden_size))
            except (KeyError, RuntimeError, ValueError) as error:
                raise ValueError(f"{path}: {name} is missing or damaged: export again") from error
        self.training_cycles = config.cycles
        layers = without_memory(config)  # for sizes and FLOPs
        assert isinstance(layers, RecursiveModel)
        self.layers = layers
        self.eval()

    @property
    def puzzle_emb(self) -> SparseEmbedding | None:  # pyright: ignore
        """Return the puzzle rows, without their numbers."""
        return self.layers.puzzle_emb

    def forward(
        self,
        state: State,
        inputs: Int[Tensor, "batch seq"],
        puzzle_ids: Int[Tensor, " batch"],
        puzzle_rows: Float[Tensor, "batch ndim"] | None = None,
        H_cycles: int | None = None,
        relax: Relaxation = REPLACE,
    ) -> tuple[State, Output]:
        """Take one supervision step, or fewer `H_cycles`. Raises ValueError for `puzzle_rows`."""
        if puzzle_rows is not None:
            raise ValueError(f"{self.path} cannot be trained: use the model that it was made of")
        if not relax.replaces:
            raise ValueError(f"{self.path} has no damping or noise: use the model it was made of")
        feed = {"tokens": inputs.long().numpy(), "puzzle_ids": puzzle_ids.long().numpy()}
        z_H, z_L = (z.contiguous().numpy() for z in state)
        logits = q = np.zeros(0, np.float32)
        for _ in range(H_cycles or self.cycles.H):
            results: Any = self.session.run(OUTPUTS, {**feed, "z_H": z_H, "z_L": z_L})
            logits, q, z_H, z_L = results
        q = torch.from_numpy(q)
        output = Output(torch.from_numpy(logits), q[:, 0], q[:, 1] if q.shape[1] == 2 else None)
        return State(torch.from_numpy(z_H), torch.from_numpy(z_L)), output

    def refine(
        self, state: State, x: Float[Tensor, "batch length dim"], relax: Relaxation
    ) -> State:
        raise AssertionError("the graph holds the whole H-cycle, its embedding included")

    def compile_reasoning(self, dynamic: bool) -> None:
        raise ValueError(f"{self.path} is compiled already: leave out compile")

    def without_numbers(self) -> RecursiveModel:
        return self.layers


def open_session(path: Path) -> Any:
    """Return an onnxruntime session with the threads of PyTorch; ValueError if it does not open."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("ONNX files need onnxruntime: pip install 'ostinato[export]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Else a thread that waits takes a core from other programs, and even from the one it waits for
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be opened ({reason}): export it again") from error
