"""Runs of every kind, killed at moments spread over all of it, resume to the bits of a whole one.

By hand: `OSTINATO_KILLS=20 pytest -m slow tests/training/test_kill_campaign.py` kills each of the
six recipes twenty times.
"""

import json
import math
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ostinato.cli import main
from tests.training.processes import CONTEXT

KILLS = int(os.environ.get("OSTINATO_KILLS", "3"))
"""Moments for each recipe."""

LOOP = "--checkpoint-every 3 --eval-every 8 --log-every 1 --device cpu --forward-dtype float32"
SMALL = "--hidden-size 32 --puzzle-emb-ndim 32"
PUZZLES = f"--num-train 60 --num-validation 16 --num-test 8 --global-batch-size 8 {SMALL}"
RECIPES = {
    "TRM": f"sudoku4-tiny {PUZZLES} --total-steps 24",
    "HRM": f"hrm-sudoku4-tiny {PUZZLES} --total-steps 16",
    "maze": f"maze-tiny {PUZZLES} --size 5 --task maze5 --seq-len 25 --slot-turns 3 "
    "--total-steps 24",
    "ARC": f"arc-tiny --num-aug 2 --global-batch-size 8 {SMALL} --total-steps 24",
    "text": "nanochat-tiny --corpus corpus --num-tokens 262 --vocab-size 262 --seq-len 16 "
    "--hidden-size 16 --num-layers 2 --num-heads 2 --group-size 16 --total-steps 24",
    "rewards": "nanochat-maze-rl --size 3 --num-train 40 --num-validation 8 --num-test 8 "
    "--hidden-size 16 --num-layers 2 --num-heads 2 --global-batch-size 4 --total-steps 24",
}


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_runs_resume_to_the_same_bits(recipe: str, tmp_path: Path):
    """Moments between the start and the end of a run, its data included; nothing is left over."""
    words = ["train", *RECIPES[recipe].split(), *LOOP.split(), "--run", "run"]
    seconds = trained(words, tmp_path / "whole")
    wanted = contents(tmp_path / "whole")
    rng = random.Random(recipe)
    for number in range(KILLS):
        place, share = tmp_path / str(number), (number + rng.random()) / KILLS
        while (took := trained(words, place, kill_after=seconds * share)) is not None:
            seconds = took  # it was over before the moment came
            shutil.rmtree(place)
        trained(words, place)
        print(f"{recipe}: kill {number} after {seconds * share:.3f} of {seconds:.3f} s", flush=True)
        found = contents(place)
        assert found.keys() == wanted.keys(), number
        assert not [name for name in wanted if found[name] != wanted[name]], number


def trained(words: list[str], place: Path, kill_after: float = math.inf) -> float | None:
    """Seconds of a processor that `ostinato WORDS` takes in the folder `place`; None if killed.

    What is counted is its work, not the time, so that other programs do not matter.
    """
    (place / "corpus").mkdir(parents=True, exist_ok=True)
    for number in range(8):
        (place / f"corpus/{number}.txt").write_text(f"def f{number}(x):\n    return x\n" * 9)
    process, seconds = CONTEXT.Process(target=command, args=(words, place)), 0.0
    process.start()
    while process.exitcode is None:
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            seconds = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
        if seconds > kill_after:
            time.sleep(random.uniform(0, 0.01))  # while it waits for the disk, too
            process.kill()
            process.join()
        time.sleep(0.001)
    assert process.exitcode in (0, -signal.SIGKILL), (place / "log").read_text()
    return seconds if process.exitcode == 0 else None


def command(words: list[str], place: Path) -> None:
    """Be `ostinato WORDS` in the folder `place`."""
    os.chdir(place)
    sys.stdout = sys.stderr = open("log", "a")  # noqa: SIM115
    sys.exit(main(words))


def contents(place: Path) -> dict[str, object]:
    """The files in `place`, but for what depends on the clock or the number of starts."""
    found: dict[str, object] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if name == "log":
            continue
        if path.is_dir() or name in ("run/environment.json", "run/.lock"):
            found[name] = "is there"
        elif name in ("run/metrics.jsonl", "run/result.json"):
            lines = [path.read_text()] if path.suffix == ".json" else path.open()
            found[name] = [timeless(json.loads(line)) for line in lines]
        else:
            found[name] = path.read_bytes()
    return found


def timeless(record: dict[str, object]) -> dict[str, object]:
    """A record without what depends on the clock."""
    by_clock = {"time", "seconds", "puzzles_per_second", "tokens_per_second"}
    return {key: value for key, value in record.items() if key not in by_clock}
