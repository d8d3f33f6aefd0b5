"""A data folder is there whole or not at all, and nothing is left beside it."""

import os
import signal
from pathlib import Path

from ostinato.data.build_once import build_once


def test_what_a_kill_leaves_is_removed_and_a_build_that_runs_is_not(tmp_path: Path):
    def die(place: Path) -> None:
        (place / "half").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        build_once(tmp_path / "one", die, print)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()

    def build(place: Path) -> None:
        assert not left.exists()
        build_once(tmp_path / "other", lambda other: (other / "whole").touch(), print)
        (place / "whole").touch()

    build_once(tmp_path / "one", build, print)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == {"one", "one/whole", "other", "other/whole"}
