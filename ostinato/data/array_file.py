"""Write arrays as .npy files, whole or not at all."""

from pathlib import Path
from typing import Any

import numpy as np

from ostinato.files import atomic

ROWS_AT_ONCE = 4096


def write_array(path: Path, array: Any) -> None:
    """Write an array, or rows that are drawn as they are asked for, as `np.save` does.

    Never as a mapped file: where the disk is full, the system kills a process that writes to one.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    with atomic(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, len(array), ROWS_AT_ONCE):
            file.write(np.ascontiguousarray(array[begin : begin + ROWS_AT_ONCE]).data)
