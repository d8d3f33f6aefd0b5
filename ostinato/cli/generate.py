"""`ostinato generate MODEL PROMPT`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.inference.generate import Sampling, generate
from ostinato.numbers import to_json


@dataclass(frozen=True)
class Generate:
    """Continue a text with a trained language model, and print it as it comes.

    The text ends by itself, at a stop string, after --max-tokens, or where the context is full.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|FILE")]
    """A run folder, a .safetensors or .gguf file, or hf:owner/name on the Hub."""
    prompt: tyro.conf.Positional[str]
    """The text to continue."""
    max_tokens: int | None = None
    """Tokens to write at most (default: as many as fit in the model's context)."""
    stop: tuple[str, ...] = ()
    """Strings at which to stop; they are not printed. Written \\n, \\r and \\t stand for a line
    feed, a carriage return and a tab."""
    json: bool = False
    """Print one JSON object at the end, with the tokens and their log-probabilities."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to compute in. "auto": as trained, but float32 on a CPU that is slow in bfloat16."""
    sampling: Sampling = field(default_factory=Sampling)

    def run(self) -> int:
        from ostinato.data.text.dataset import unescaped
        from ostinato.models import NanoChat
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        if not self.prompt:
            raise ValueError("the prompt is empty: give some text to continue")
        model = load(
            self.model,
            pick_device(self.device),
            kind=NanoChat,
            forward_dtype=self.forward_dtype,
        )
        stop = [unescaped(text) for text in self.stop]
        pieces = generate(model, self.prompt, None, self.sampling, self.max_tokens, stop)
        if self.json:
            found = list(pieces)
            content = {
                "prompt": self.prompt,
                "text": "".join(piece.text for piece in found),
                "finish": found[-1].finish,
                "tokens": [piece.token for piece in found],
                "logprobs": [piece.logprob for piece in found],
            }
            print(to_json(content))
            return 0
        print(self.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return 0


def parse(words: list[str]) -> Command:
    """The words behind `ostinato generate`."""
    return read(Generate, words, "generate").run
