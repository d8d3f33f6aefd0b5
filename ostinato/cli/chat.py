"""`ostinato chat MODEL`."""

import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ostinato.cli.sampling_arguments import SamplingArguments
from ostinato.files import home_path, write_text

if TYPE_CHECKING:
    from ostinato.inference.chat import Dialogue

BASE = (
    "This model only continues texts of the form User: … Assistant: …; it has not been trained to "
    "answer. To teach it: ostinato train nanochat-chat --init-from RUN"
)
COMMANDS = (
    "/system TEXT begins anew with a system message, /reset without one; /save FILE keeps the "
    "conversation; /quit or Ctrl-D ends, Ctrl-C stops an answer."
)


@dataclass(frozen=True)
class Chat:
    """Talk with a trained language model, turn by turn.

    A model tuned by `ostinato train nanochat-chat` answers; any other continues the dialogue as a
    text. The oldest turns are forgotten when the context is full. /system TEXT begins anew with a
    system message, /reset without one, /save FILE keeps the conversation, /quit ends; Ctrl-C stops
    an answer.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|FILE")]
    """A run folder, a .safetensors or .gguf file, or hf:owner/name on the Hub."""
    max_tokens: int | None = None
    """Tokens of an answer at most (default: as many as fit in the model's context)."""
    system: str = ""
    """System message to begin with."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to compute in. "auto": as trained, but float32 on a CPU that is slow in bfloat16."""
    product: Literal["auto", "numba", "float", "int8"] = "auto"
    """Way to multiply with ternary weights, as for `ostinato generate`."""
    sampling: SamplingArguments = field(default_factory=SamplingArguments)

    def run(self) -> int:
        from ostinato.inference.chat import Dialogue
        from ostinato.inference.generate import byte_tokenizer_of
        from ostinato.models import NanoChat
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        device = pick_device(self.device)
        model = load(self.model, device, kind=NanoChat, forward_dtype=self.forward_dtype)
        sampling = self.sampling.drawn()
        tokenizer = byte_tokenizer_of(model)
        dialogue = Dialogue(model, tokenizer, sampling, self.max_tokens, self.product)
        dialogue.reset(self.system)
        self.sampling.tell_seed(sampling)
        if not model.chat_template:
            print(BASE)
        print(COMMANDS)
        talk(dialogue)
        return 0


def talk(dialogue: "Dialogue") -> None:
    """Answer line by line until the input ends or asks to quit."""
    if sys.stdin.isatty():
        with suppress(ImportError):  # not on every platform
            import readline  # noqa: F401 gives `input` history and line editing
    saved: set[Path] = set()
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n/quit or Ctrl-D ends")
            continue
        if line.strip() == "/quit":
            return
        try:
            if line.startswith("/"):
                print(command(dialogue, line, saved))
            else:
                answer(dialogue, line)
        except ValueError as error:  # a line can be put better, without a new start
            print(f"ostinato: {error}", file=sys.stderr)


def answer(dialogue: "Dialogue", question: str) -> None:
    """Print an answer as it comes; Ctrl-C stops it."""
    with closing(dialogue.ask(question)) as pieces:  # pyright: ignore[reportArgumentType]
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" …", end="")
    print()


def command(dialogue: "Dialogue", line: str, saved: set[Path]) -> str:
    """Carry out a command; return what to tell. Raises ValueError if it is none, or fails."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "/reset" and not rest:
        dialogue.reset()
        return "The dialogue is forgotten."
    if word == "/system" and rest:
        dialogue.reset(rest)
        return "The dialogue begins anew with this system message."
    if word == "/save" and rest:
        return save(dialogue, home_path(rest), saved)
    raise ValueError(f"unknown command {line.strip()!r}: {COMMANDS}")


def save(dialogue: "Dialogue", path: Path, saved: set[Path]) -> str:
    """Write the conversation as a line of JSON, as training reads it."""
    from ostinato.data.text.conversations import to_line

    if path.exists() and path not in saved:
        raise ValueError(f"{path} exists: give another name")
    write_text(path, to_line(dialogue.messages))
    saved.add(path)
    return f"{len(dialogue.messages)} messages are in {path}"
