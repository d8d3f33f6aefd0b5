"""Measure how fast puzzles are solved: with all steps, with early exit, and with searches.

Each repetition runs every case once, and measures the machine's own speed before each. Other load
on the machine then affects all cases alike. Puzzles per second include everything from tokens to
answers; steps per puzzle count supervision steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch.utils.flop_counter import FlopCounterMode

from ostinato.bench.measure import Spread, measure_peak, peak_memory, seconds_of
from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.search import SearchEvaluation, evaluate_search, questions
from ostinato.inference.search import FIXED, Search, search_named
from ostinato.inference.stream import think_stream
from ostinato.models import RecursiveModel

EARLY_EXIT = replace(FIXED, early_exit=True)


@dataclass(frozen=True)
class Case:
    """One way of solving a number of puzzles."""

    mode: str
    """Mode: "fixed", "early exit" or the name of a search."""
    search: Search
    puzzles: int
    batch_size: int
    max_steps: int


@dataclass(frozen=True)
class CaseSpeed:
    """The measurements of one case."""

    case: Case
    exact_accuracy: float
    selected_by: str
    """Chooser of the answers: "rules", or the model by "q", "first" or "residual"."""
    steps_per_puzzle: float
    puzzles_per_second: Spread
    sample_steps_per_second: Spread
    """Supervision steps, counted per puzzle."""
    share_of_peak: Spread
    times_fixed: Spread
    """Speedup: puzzles per second relative to a run of all steps for every puzzle, in the same
    repetition with the same number of puzzles, batch size and steps."""


@dataclass(frozen=True)
class SolvingSpeed:
    """The result of `bench_solving`."""

    device: str
    dtype: str
    threads: int
    """CPU threads."""
    compiled: bool
    parameters: int
    flops_per_sample_step: int
    """Floating-point operations of matrix products; a multiplication with its addition counts as
    two."""
    peak_flops_per_second: Spread
    """Floating-point operations per second of a large square product."""
    repetitions: int
    peak_memory_bytes: int
    """Peak memory: on CUDA the most that was allocated, else the most that this process has ever
    held."""
    cases: list[CaseSpeed]


def cases_of(
    searches: list[str],
    puzzles: list[int],
    batch_sizes: list[int],
    max_steps: list[int],
    search_sizes: list[float],
) -> list[Case]:
    """Return the cases: every mode with the first number of each list, fixed and early exit with
    all.

    Each search comes in all of its sizes (`Search.scaled`); equal sizes come once.
    """
    first = puzzles[0], batch_sizes[0], max_steps[0]
    sizes = [first]
    sizes += [(count, *first[1:]) for count in puzzles[1:]]
    sizes += [(first[0], size, first[2]) for size in batch_sizes[1:]]
    sizes += [(*first[:2], steps) for steps in max_steps[1:]]
    plain = [("fixed", FIXED), ("early exit", EARLY_EXIT)]
    named = [
        (name, search_named(name).scaled(times)) for name in searches for times in search_sizes
    ]
    cases = [
        Case(mode, search, *size)
        for size in sizes
        for mode, search in plain + (named if size == first else [])
    ]
    return list(dict.fromkeys(cases))


def bench_solving(
    model: RecursiveModel,
    puzzles: PuzzleSet,
    cases: list[Case],
    repetitions: int = 3,
    compiled: bool = False,
    report: Callable[[str], None] = print,
) -> SolvingSpeed:
    """Solve the first puzzles of a split in each way, several times.

    `compiled` only records whether the model was compiled. Raises ValueError if a number is less
    than 1 or if the split has too few puzzles.
    """
    if repetitions < 1:
        raise ValueError(f"repeat must be at least 1, not {repetitions}")
    for case in cases:
        if not 1 <= case.puzzles <= len(puzzles):
            raise ValueError(
                f"{case.puzzles} puzzles are asked for, but there are {len(puzzles)}: "
                f"choose from 1 to {len(puzzles)}"
            )
    config, device = model.config, model.H_init.device
    flops = count_flops(model)
    for size in {case.batch_size for case in cases}:  # the first step compiles
        list(think_stream(model, islice(questions(puzzles), size), FIXED, 1, size))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    peaks: list[float] = []
    seconds: dict[Case, list[float]] = {case: [] for case in cases}
    shares: dict[Case, list[float]] = {case: [] for case in cases}
    results: dict[Case, SearchEvaluation] = {}
    for number in range(1, repetitions + 1):
        for case in cases:
            peaks.append(measure_peak(config.dtype, device))

            def work(case: Case = case) -> None:
                results[case] = evaluate_search(
                    model,
                    first_of(puzzles, case.puzzles),
                    case.search,
                    case.batch_size,
                    case.max_steps,
                )

            seconds[case].append(seconds_of(work, device))
            steps = results[case].steps_per_puzzle * case.puzzles
            shares[case].append(steps * flops / seconds[case][-1] / peaks[-1])
            report(
                f"{number} of {repetitions}, {case.mode}, {case.puzzles} puzzles, batch "
                f"{case.batch_size}, {case.max_steps} steps: "
                f"{case.puzzles / seconds[case][-1]:,.4g} puzzles/s, "
                f"{results[case].exact_accuracy:.1%} exact"
            )
    return SolvingSpeed(
        device=str(device),
        dtype=config.forward_dtype,
        threads=torch.get_num_threads(),
        compiled=compiled,
        parameters=sum(p.numel() for p in model.parameters()),
        flops_per_sample_step=flops,
        peak_flops_per_second=Spread.of(peaks),
        repetitions=repetitions,
        peak_memory_bytes=peak_memory(device),
        cases=[
            CaseSpeed(
                case=case,
                exact_accuracy=result.exact_accuracy,
                selected_by=result.selected_by,
                steps_per_puzzle=result.steps_per_puzzle,
                puzzles_per_second=Spread.of([case.puzzles / s for s in seconds[case]]),
                sample_steps_per_second=Spread.of(
                    [result.steps_per_puzzle * case.puzzles / s for s in seconds[case]]
                ),
                share_of_peak=Spread.of(shares[case]),
                times_fixed=Spread.of(
                    [
                        fixed / own
                        for fixed, own in zip(
                            seconds[replace(case, mode="fixed", search=FIXED)],
                            seconds[case],
                            strict=True,
                        )
                    ]
                ),
            )
            for case, result in results.items()
        ],
    )


def first_of(puzzles: PuzzleSet, count: int) -> PuzzleSet:
    """Return the first puzzles of a split, each with one example."""
    if not (puzzles.puzzle_indices[1:] - puzzles.puzzle_indices[:-1] == 1).all():
        raise ValueError("puzzles of several examples cannot be counted out: choose another set")
    return PuzzleSet.assemble(
        puzzles.metadata,
        puzzles.inputs[:count],
        puzzles.labels[:count],
        puzzles.puzzle_identifiers[:count],
        puzzles.puzzle_indices[: count + 1],
        puzzles.puzzle_indices[: count + 1],
        None if puzzles.ratings is None else puzzles.ratings[:count],
    )


def count_flops(model: RecursiveModel) -> int:
    """Return the operations of one supervision step of one puzzle, counted on a twin without
    data."""
    with torch.device("meta"), torch.no_grad():
        twin = model.without_numbers()
        inputs = torch.zeros(1, model.config.seq_len, dtype=torch.int32)
        with FlopCounterMode(display=False) as counter:
            twin(twin.initial_state(1), inputs, torch.zeros(1, dtype=torch.int32))
    return counter.get_total_flops()
