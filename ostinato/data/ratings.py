"""Keep the ratings of a table, because measuring them takes a minute for a thousand Sudokus."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ostinato.data.tables import Rows
from ostinato.data.task import Task
from ostinato.files import atomic, make_folder


def kept_ratings(
    task: Task, rows: Rows, folder: Path, report: Callable[[str], None]
) -> tuple[Float32[np.ndarray, " rows"] | None, str | None]:
    """Rate rows as `task.rate` does, and keep a measured rating in `folder` for the next time.

    The file is named by the content of the rows. Raises ValueError if it is damaged.
    """
    if not np.isnan(rows.ratings).any():
        return task.rate(rows, report)
    content = hashlib.sha256(rows.inputs.tobytes() + rows.ratings.tobytes()).hexdigest()[:16]
    path = folder / f"{task.name}-{content}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as file:
                ratings, rated_by = file["ratings"], str(file["rated_by"])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it") from None
        if ratings.shape != (len(rows),) or ratings.dtype != np.float32:
            raise ValueError(f"{path} does not hold {len(rows)} ratings: delete it")
        return ratings, rated_by
    ratings, rated_by = task.rate(rows, report)
    if ratings is not None:
        make_folder(folder)
        with atomic(path) as file:
            np.savez(file, ratings=ratings, rated_by=np.array(rated_by))
    return ratings, rated_by
