"""Fetch files from the Hugging Face Hub, in one quick attempt."""

from pathlib import Path
from typing import Literal

PREFIX = "hf:"
"""Prefix of the name of a model on the Hub, which tells it from a path."""


def fetch(
    repository: str,
    names: list[str],
    remedy: str,
    revision: str | None = None,
    kind: Literal["model", "dataset"] = "model",
) -> Path:
    """Return the local copy of a repository with the files whose names or patterns are given.

    Files in the cache are not fetched again. Raises ValueError, with the remedy, if the Hub has no
    such repository or cannot be reached.
    """
    from huggingface_hub import snapshot_download  # slow to import, and rarely needed

    try:
        # Unlike hf_hub_download, which tries six times, this gives up where there is no network
        folder = snapshot_download(
            repository, repo_type=kind, revision=revision, allow_patterns=names
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].removesuffix(".")
        raise ValueError(
            f"cannot get {repository} from the Hub: go online, or {remedy} ({reason})"
        ) from error
    return Path(folder)


def fetch_all(repository: str, names: list[str], remedy: str) -> list[Path]:
    """Return the local copies of files of a data set; raises ValueError as `fetch` does."""
    folder = fetch(repository, names, remedy, kind="dataset")
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{repository} on the Hub has no {name}: go online, or {remedy}")
    return [folder / name for name in names]
