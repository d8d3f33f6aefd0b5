"""Write files whole or not at all, under unpredictable temporary names.

Everything that Ostinato writes goes through `atomic`. Files with predictable names, such as a lock,
are opened without following symbolic links: a run folder may come from a stranger.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from ostinato.numbers import to_json

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room or choose another place"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "choose a place that you may use"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way: choose another path"),
    errno.ENOENT: "check the path",
    errno.EISDIR: "give the path of a file",
    errno.ELOOP: "remove the symbolic link",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""Remedies for errors of the operating system."""


class WriteError(ValueError):
    """A file could not be written; `reason` is the system's, as in "No space left on device"."""

    def __init__(self, path: Path, error: OSError):
        self.reason = error.strerror or str(error)
        super().__init__(f"could not write {path}: {self.reason}: {remedy(error)}")


class Notice(UserWarning):
    """Say something about a file that its user should know; a command prints it as one line."""


def remedy(error: OSError) -> str:
    """Return what the user can do about an error of the system."""
    return REMEDIES.get(error.errno or 0, "choose another place")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Replace `path` whole or not at all: yield an open file, and move it to `path` at the end.

    Writers that need a name find it in `file.name`. Both the file and the folder's entry are
    flushed to the disk before this returns. An exception removes the temporary file;
    `remove_partial_files` removes what a killed process leaves. Raises `WriteError` if the system
    refuses, for instance because the disk is full.
    """
    temporary = temporary_path(path)
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # a file moved over /dev/null would replace it
        file = None
        try:  # from here on, since a signal may come at any moment
            file = temporary.open("xb")  # follows no link, has the permissions of any new file
            hold(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # the first error counts
                temporary.unlink()
            with suppress(OSError):
                if file is not None:
                    file.close()
        flush_folder(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically; raise `WriteError` if that fails."""
    with atomic(path) as file:
        # Names of files may hold bytes that are no text: JSON reads these escapes
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as indented JSON, atomically."""
    write_text(path, to_json(content, indent=2, ensure_ascii=False) + "\n")


def make_folder(folder: Path) -> None:
    """Make a folder to write to if it does not exist, and remove partial files that kills left in
    it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"could not write to {folder}: {reason}: {remedy(error)}") from error
    remove_partial_files(folder)


def open_known(path: Path, mode: str) -> IO[bytes]:
    """Open a file with a predictable name, unbuffered; raise OSError if it is a symbolic link."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    return open(path, mode, buffering=0, opener=opener)


def flush_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_path(path: Path) -> Path:
    """Return a new name beside `path` that `remove_partial_files` recognises."""
    return path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.partial")


def hold(handle: int) -> None:
    """Lock an open file or folder as in use until it is closed, if the file system has locks.

    The kernel releases the lock when the process ends, however it ends.
    """
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_partial_files(folder: Path) -> None:
    """Remove the partly written files and folders that kills have left in `folder`.

    Files that another process is writing stay.
    """
    for path in folder.glob(".*.partial"):
        with suppress(OSError):  # it is a link, in use, or gone
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(handle)


def file_name(text: str) -> str:
    """Return `text` as a safe file name: no path, not hidden, only plain characters."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII)[:100].strip(".-") or "unnamed"


def home_path(text: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced; raise ValueError if there is no such folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{text}: there is no such home: write the path in full") from None
