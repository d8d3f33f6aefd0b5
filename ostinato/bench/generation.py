"""Measure how fast a language model generates, next to the memory bandwidth that limits it.

Each token reads every weight once, and does little more than one multiplication with it. So memory
bandwidth is the limit. It is measured in turn with the generation.
"""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from ostinato.bench.llama_cpp import LlamaCpp
from ostinato.bench.measure import Spread, peak_memory, seconds_of
from ostinato.inference.compiled import compiled_model, ternary_layers
from ostinato.inference.decoder import Way, choose_way
from ostinato.inference.generate import next_tokens
from ostinato.inference.sampling import Sampling
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.models.sizes import size_of
from ostinato.weights.gguf import OURS
from ostinato.weights.gguf_write import choose_form, write_gguf

READ_BYTES = 2**28
"""Bytes of memory that are read for the bandwidth; more than caches hold."""
READS = 4
PROMPT = (1, 2, 3, 4)
LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True)
class GenerationSpeed:
    """The result of `bench_generation`."""

    name: str
    device: str
    dtype: str
    threads: int
    """CPU threads."""
    parameters: int
    tokens: int
    """Tokens that each repetition writes, after a prompt of four."""
    repetitions: int
    way: Way
    """Way to multiply with ternary weights: see `ostinato.inference.decoder`."""
    tokens_per_second: Spread
    others: dict[str, Spread]
    """Tokens per second of other ways, and of llama.cpp on the exported file, in turn with it."""
    times_others: dict[str, Spread]
    """Its speed in units of that of each of those."""
    bytes_per_token: int
    """Bytes of packed weights that a token reads; an embedding that is not also the head counts as
    one row."""
    memory_bytes_per_second: Spread
    """Memory bandwidth, measured by reading a long stretch of memory."""
    share_of_memory_speed: Spread
    peak_memory_bytes: int
    """Peak memory: on CUDA the most that was allocated, else the most that this process has ever
    held."""


def bench_generation(
    name: str,
    config: NanoChatConfig,
    device: torch.device,
    tokens: int = 32,
    repetitions: int = 5,
    ways: Sequence[Way | Literal["auto"]] = ("auto",),
    llama_cpp: bool = False,
    report: Callable[[str], object] = lambda line: None,
) -> GenerationSpeed:
    """Generate greedily at batch size 1 with random weights; the clock starts after the prompt.

    The first way is compared with the others and, if asked, with llama.cpp on the exported file.
    Raises ValueError if there is nothing to measure, or the context is too short for it, or
    llama.cpp cannot run the model.
    """
    if tokens < 1 or repetitions < 1:
        raise ValueError("tokens and repetitions must be at least 1")
    if len(PROMPT) + tokens > config.seq_len:
        raise ValueError(
            f"{tokens} tokens do not fit in the context of {config.seq_len}: "
            f"write {config.seq_len - len(PROMPT)} at most"
        )
    if not ways:
        raise ValueError("ways is empty: name at least one")
    model = NanoChat(config, torch.Generator().manual_seed(0)).to(device).packed()

    def writer(way: Way) -> Callable[[int], float]:
        # A copy for each way keeps what it lays out in memory to itself
        own = copy.deepcopy(model)

        def write(count: int) -> float:
            writing = next_tokens(own, PROMPT, Sampling(temperature=0.0), way)
            next(writing)
            return seconds_of(lambda: [*islice(writing, count)], device)

        return write

    chosen: list[Way] = [*dict.fromkeys(choose_way(model, way) for way in ways)]
    runners: dict[str, Callable[[int], float]] = {way: writer(way) for way in chosen}
    with ExitStack() as stack:
        if llama_cpp:
            runners[LLAMA_CPP] = llama_cpp_writer(model, stack)
        for runner, write in runners.items():
            report(f"warming up {name} on {device}, {runner}")
            write(min(tokens, 4))
        reads: list[float] = []
        speeds: dict[str, list[float]] = {runner: [] for runner in runners}
        for number in range(1, repetitions + 1):
            reads.append(measure_reading(device))
            for runner, write in runners.items():
                speeds[runner].append(tokens / write(tokens))
            line = ", ".join(f"{runner} {found[-1]:,.4g}" for runner, found in speeds.items())
            report(f"{number} of {repetitions}: {line} tokens/s")
    way = chosen[0]
    first = speeds.pop(way)
    bytes_per_token = bytes_read(model, way)
    shares = [bytes_per_token * s / r for s, r in zip(first, reads, strict=True)]
    return GenerationSpeed(
        name=name,
        device=str(device),
        dtype=config.forward_dtype,
        threads=torch.get_num_threads(),
        parameters=size_of(config).parameters,
        tokens=tokens,
        repetitions=repetitions,
        way=way,
        tokens_per_second=Spread.of(first),
        others={other: Spread.of(found) for other, found in speeds.items()},
        times_others={
            other: Spread.of([s / o for s, o in zip(first, found, strict=True)])
            for other, found in speeds.items()
        },
        bytes_per_token=bytes_per_token,
        memory_bytes_per_second=Spread.of(reads),
        share_of_memory_speed=Spread.of(shares),
        peak_memory_bytes=peak_memory(device),
    )


def bytes_read(model: NanoChat, way: Way) -> int:
    """Return the bytes of weights that a token reads."""
    tensors = {name: tensor.nbytes for name, tensor in model.state_dict().items()}
    if not model.config.tied_head:  # then only a row of the embedding is read
        del tensors["embed_tokens.weight"]
    if way == "int8":
        return sum(tensors.values())
    others = sum(n for name, n in tensors.items() if not name.endswith((".codes", ".scales")))
    if way == "float":
        return others + sum(layer.float_weight().nbytes for layer in ternary_layers(model))
    return others + compiled_model(model).matrix_bytes


def llama_cpp_writer(model: NanoChat, stack: ExitStack) -> Callable[[int], float]:
    """Export a model, load it with llama.cpp, and return what measures how long it writes."""
    path = Path(stack.enter_context(TemporaryDirectory())) / "model.gguf"
    form = choose_form(model)
    if form.architecture == OURS:
        raise ValueError("llama.cpp does not know several streams: --num-streams 1")
    write_gguf(model, path, form)
    config = model.config
    llama = LlamaCpp(path, config.vocab_size, config.seq_len, torch.get_num_threads())
    stack.callback(llama.close)

    def write(count: int) -> float:
        llama.clear()
        token = int(llama.read(PROMPT).argmax())
        start = time.perf_counter()
        for _ in range(count):
            token = int(llama.read([token]).argmax())
        return time.perf_counter() - start

    return write


def measure_reading(device: torch.device) -> float:
    """Return the bytes per second of reading a long stretch of memory."""
    stretch = torch.ones(READ_BYTES // 4, device=device)
    seconds_of(stretch.sum, device)
    return READS * READ_BYTES / sum(seconds_of(stretch.sum, device) for _ in range(READS))
