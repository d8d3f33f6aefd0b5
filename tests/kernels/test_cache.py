"""Machine code that is kept on the disk is that of the kernels as they are now."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato import kernels

CALL = """
import numpy as np
from ostinato.kernels.products import largest
print(largest(np.array([1, -3, 2], np.float32)), *largest.stats.cache_hits.values())
"""
FRESH, KEPT = ["3.0"], ["3.0", "1"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a copy of the kernels."""
    folder = tmp_path / "ostinato" / "kernels"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(kernels.__file__).parent, folder, ignore=ignore)
    (folder.parent / "__init__.py").touch()
    return folder


def largest(package: Path) -> list[str]:
    """The largest magnitude of 1, -3, 2 by a new process, and 1 if its code was on the disk."""
    home = package.parents[1]
    environment = {**os.environ, "PYTHONPATH": str(home), "HOME": str(home)}
    environment |= {"XDG_CACHE_HOME": str(home / "cache"), "NUMBA_CACHE_DIR": ""}
    command = [sys.executable, "-c", CALL]
    result = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def names(package: Path) -> set[str]:
    return {path.name for path in (package / "__pycache__").glob("*.nb[ci]")}


def test_a_change_in_another_file_is_noticed_and_leaves_no_old_code(package: Path):
    """`largest` is in products.py, what it calls in scalars.py."""
    old = package / "__pycache__" / "products.largest-1.py311.1.nbc"
    old.parent.mkdir()
    old.touch()  # numba's own name
    assert largest(package) == FRESH
    before = names(package)
    source = (package / "scalars.py").read_text()
    returned = "return builder.bitcast(values[0], context.get_value_type(number))"
    assert source.count(returned) == 1
    changed = returned.replace("builder", "builder.fneg(builder", 1) + ")"
    (package / "scalars.py").write_text(source.replace(returned, changed))
    assert (largest(package), largest(package)) == (["-3.0"], ["-3.0", "1"])
    assert old.name not in before and len(before) == len(names(package)) == 2
    assert not before & names(package)


def test_code_is_kept_for_the_user_where_the_package_cannot_be_written(package: Path):
    (package / "__pycache__").touch()
    assert (largest(package), largest(package)) == (FRESH, KEPT)


def test_kernels_run_where_nothing_can_be_written(package: Path):
    (package / "__pycache__").touch()
    for place in ("cache", "Library"):  # on Linux, on macOS
        (package.parents[1] / place).touch()
    assert (largest(package), largest(package)) == (FRESH, FRESH)
