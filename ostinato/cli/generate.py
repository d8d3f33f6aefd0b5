"""`ostinato generate MODEL PROMPT`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from ostinato.cli.sampling_arguments import SamplingArguments
from ostinato.inference.generate import Piece, generate
from ostinato.numbers import Count, to_json


@dataclass(frozen=True)
class Generate:
    """Continue a text with a trained language model, and print it as it comes.

    The text ends by itself, at a stop string, after --max-tokens, or where the context is full.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|FILE")]
    """A run folder, a .safetensors or .gguf file, or hf:owner/name on the Hub."""
    prompt: tyro.conf.Positional[str] = ""
    """The text to continue; without one, the model begins a text of its own."""
    texts: Annotated[Count, tyro.conf.arg(name="texts", aliases=["-n"])] = 1
    """Number of texts to write; each has the seed of the one before it plus one."""
    max_tokens: int | None = None
    """Tokens to write at most (default: as many as fit in the model's context)."""
    stop: tuple[str, ...] = ()
    """Strings at which to stop; they are not printed. Written \\n, \\r and \\t stand for a line
    feed, a carriage return and a tab."""
    json: bool = False
    """Print one JSON object a text, with the tokens, their log-probabilities and the seed."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to compute in. "auto": as trained, but float32 on a CPU that is slow in bfloat16."""
    product: Literal["auto", "numba", "float", "int8"] = "auto"
    """Way to multiply with ternary weights. "auto": numba if it is installed (the extra fast),
    else what is faster here; float keeps four bytes a weight, int8 one."""
    sampling: SamplingArguments = field(default_factory=SamplingArguments)

    def run(self) -> int:
        from ostinato.data.text.dataset import unescaped
        from ostinato.models import NanoChat
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        device = pick_device(self.device)
        model = load(self.model, device, kind=NanoChat, forward_dtype=self.forward_dtype).packed()
        first, stop = self.sampling.drawn(), [unescaped(text) for text in self.stop]
        for number in range(self.texts):
            sampling = replace(first, seed=first.seed + number)
            pieces = generate(
                model, self.prompt, None, sampling, self.max_tokens, stop, self.product
            )
            if number == 0:
                self.sampling.tell_seed(first)
            elif not self.json:
                print("---")
            self.write(pieces, sampling.seed)
        return 0

    def write(self, pieces: Iterator[Piece], seed: int) -> None:
        """Print a text, or its JSON."""
        if self.json:
            found = list(pieces)
            content: dict[str, Any] = {
                "prompt": self.prompt,
                "text": "".join(piece.text for piece in found),
                "finish": found[-1].finish,
                "tokens": [piece.token for piece in found],
                "logprobs": [piece.logprob for piece in found],
                "seed": seed,
            }
            print(to_json(content))
            return
        print(self.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
