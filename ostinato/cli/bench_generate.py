"""`ostinato bench generate`."""

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.numbers import to_json


@dataclass(frozen=True)
class BenchGenerate:
    """Measure how fast a preset of nanochat writes, with random weights and one text at a time.

    The speed at which the machine reads memory, which limits it, is measured in turn with that.
    """

    preset: tyro.conf.Positional[str] = "nano-125m"
    """Name of the preset: see `ostinato models`."""
    tokens: int = 32
    """Tokens to write in each repetition."""
    repeat: int = 5
    """Repetitions."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to compute in. "auto": the preset's, but float32 on a CPU that is slow in bfloat16."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def run(self) -> int:
        from ostinato.bench.generation import bench_generation
        from ostinato.models.dtypes import choose_dtype
        from ostinato.recipes.text import preset_named
        from ostinato.training.run import pick_device

        config, device = preset_named(self.preset), pick_device(self.device)
        dtype: Any = choose_dtype(self.forward_dtype, device, config.forward_dtype)
        speed = bench_generation(
            self.preset,
            replace(config, forward_dtype=dtype),
            device,
            self.tokens,
            self.repeat,
            report=lambda line: print(line, file=sys.stderr),
        )
        if self.json:
            print(to_json(asdict(speed)))
            return 0
        print(
            f"{speed.name}: {speed.parameters:,} weights, {speed.dtype}, on {speed.device} with "
            f"{speed.threads} threads; {speed.repetitions} × {speed.tokens} tokens"
        )
        for what, spread, unit in (
            ("tokens/s", speed.tokens_per_second, 1),
            ("memory read, GB/s", speed.memory_bytes_per_second, 1e9),
            ("share of that", speed.share_of_memory_speed, 1),
        ):
            median, low, high = (value / unit for value in asdict(spread).values())
            print(f"  {what:<18} {median:8.4g}  ({low:.4g} – {high:.4g})")
        print(
            f"  a token reads {speed.bytes_per_token / 2**20:,.1f} MiB of weights; "
            f"peak memory {speed.peak_memory_bytes / 2**20:,.0f} MiB"
        )
        return 0


def parse(words: list[str]) -> Command:
    """The words behind `ostinato bench generate`."""
    return read(BenchGenerate, words, "bench generate").run
