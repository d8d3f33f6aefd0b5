"""`ostinato generate MODEL PROMPT`."""

import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

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


NOTICE = (
    "The model continues a text of the form User: … Assistant: …; it has not been trained to "
    "answer. /reset forgets the dialogue, Ctrl-D ends it."
)


@dataclass(frozen=True)
class Chat:
    """Talk with a trained language model, turn by turn.

    It continues the dialogue as a text: a model trained on plain texts does not answer questions.
    The oldest turns are forgotten when the context is full. /reset forgets all, Ctrl-D ends.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|FILE")]
    """A run folder, a .safetensors or .gguf file, or hf:owner/name on the Hub."""
    max_tokens: int | None = None
    """Tokens of an answer at most (default: as many as fit in the model's context)."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to compute in. "auto": as trained, but float32 on a CPU that is slow in bfloat16."""
    sampling: Sampling = field(default_factory=Sampling)

    def run(self) -> int:
        from ostinato.inference.chat import Dialogue
        from ostinato.inference.generate import tokenizer_of
        from ostinato.models import NanoChat
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        model = load(
            self.model,
            pick_device(self.device),
            kind=NanoChat,
            forward_dtype=self.forward_dtype,
        )
        dialogue = Dialogue(model, tokenizer_of(model), self.sampling, self.max_tokens)
        print(NOTICE)
        while (question := read_line()) is not None:
            if question.strip() == "/reset":
                dialogue.reset()
                print("The dialogue is forgotten.")
                continue
            try:
                pieces = dialogue.ask(question)
            except ValueError as error:  # a question can be put better, without a new start
                print(f"ostinato: {error}", file=sys.stderr)
                continue
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
        print()
        return 0


def read_line() -> str | None:
    """Read a line from the keyboard or a pipe; None at the end."""
    try:
        return input("> ")
    except EOFError:
        return None
