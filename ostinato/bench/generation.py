"""Measure how fast a language model generates, next to the memory bandwidth that limits it.

Each token reads every weight once, and does little more than one multiplication with it. So memory
bandwidth is the limit. It is measured in turn with the generation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch

from ostinato.bench.measure import Spread, peak_memory, seconds_of
from ostinato.inference.generate import Sampling, next_tokens
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.models.sizes import size_of

READ_BYTES = 2**28
"""Bytes of memory that are read for the bandwidth; more than caches hold."""
READS = 4
PROMPT = (1, 2, 3, 4)


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
    tokens_per_second: Spread
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
    report: Callable[[str], object] = lambda line: None,
) -> GenerationSpeed:
    """Generate greedily at batch size 1 with random weights; the clock starts after the prompt.

    Raises ValueError if there is nothing to measure, or the context is too short for it.
    """
    if tokens < 1 or repetitions < 1:
        raise ValueError("tokens and repetitions must be at least 1")
    if len(PROMPT) + tokens > config.seq_len:
        raise ValueError(
            f"{tokens} tokens do not fit in the context of {config.seq_len}: "
            f"write {config.seq_len - len(PROMPT)} at most"
        )
    model = NanoChat(config, torch.Generator().manual_seed(0)).to(device).packed()
    bytes_per_token = sum(tensor.nbytes for tensor in model.state_dict().values())
    if not config.tied_head:  # then only a row of the embedding is read
        bytes_per_token -= model.embed_tokens.weight.nbytes

    def write(count: int) -> float:
        writing = next_tokens(model, PROMPT, Sampling(temperature=0.0))
        next(writing)
        return seconds_of(lambda: [*islice(writing, count)], device)

    report(f"warming up {name} on {device}")
    write(min(tokens, 4))
    speeds, reads = [], []
    for number in range(1, repetitions + 1):
        reads.append(measure_reading(device))
        speeds.append(tokens / write(tokens))
        report(f"{number} of {repetitions}: {speeds[-1]:,.4g} tokens/s")
    shares = [bytes_per_token * s / r for s, r in zip(speeds, reads, strict=True)]
    return GenerationSpeed(
        name=name,
        device=str(device),
        dtype=config.forward_dtype,
        threads=torch.get_num_threads(),
        parameters=size_of(config).parameters,
        tokens=tokens,
        repetitions=repetitions,
        tokens_per_second=Spread.of(speeds),
        bytes_per_token=bytes_per_token,
        memory_bytes_per_second=Spread.of(reads),
        share_of_memory_speed=Spread.of(shares),
        peak_memory_bytes=peak_memory(device),
    )


def measure_reading(device: torch.device) -> float:
    """Return the bytes per second of reading a long stretch of memory."""
    stretch = torch.ones(READ_BYTES // 4, device=device)
    seconds_of(stretch.sum, device)
    return READS * READ_BYTES / sum(seconds_of(stretch.sum, device) for _ in range(READS))
