"""Files are written whole or not at all, and nothing that lies in the folder beforehand matters."""

import os
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from ostinato.data.build_once import build_once
from ostinato.data.metadata import write_array
from ostinato.files import (
    WriteError,
    atomic,
    file_name,
    home_path,
    open_known,
    remove_partial_files,
    write_json,
    write_text,
)
from ostinato.training.run_folder import RunFolder, read_json


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 0.5, "name": "é"})
    assert read_json(path) == {"accuracy": 0.5, "name": "é"}
    for error in (RuntimeError, SystemExit, KeyboardInterrupt):
        with pytest.raises(error), atomic(path) as file:
            file.write(b"half of i")
            raise error

    def full(handle):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ValueError, match=r"could not write .*result\.json: No space left.*make room"
    ):
        write_text(path, "other")
    assert read_json(path) == {"accuracy": 0.5, "name": "é"}
    assert list(tmp_path.iterdir()) == [path]


def test_several_can_write_the_same_file_at_a_time(tmp_path):
    path = tmp_path / "curves.png"
    with ExitStack() as stack:
        for number in range(4):
            stack.enter_context(atomic(path)).write(b"%d" % number)
            assert not path.exists()
    assert path.read_bytes() == b"0", "the last to end wins"
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_error_is_the_one_that_is_told(tmp_path, monkeypatch):
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(RuntimeError, match="first"), atomic(tmp_path / "a") as file:
        file.write(b"half of i")
        raise RuntimeError("first")


def test_new_files_have_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
        folder = build_once(tmp_path / "data", lambda place: None, lambda line: None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_links_are_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").symlink_to(victim)
    write_json(run / "result.json", {})
    assert not (run / "result.json").is_symlink()
    (run / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        open_known(run / "metrics.jsonl", "ab")
    (run / ".lock").symlink_to(victim)
    with pytest.raises(ValueError, match="remove the symbolic link"), RunFolder(run).lock():
        pytest.fail("the lock is a link")
    (run / ".old.partial").symlink_to(tmp_path)
    remove_partial_files(run)
    # Even if the temporary name were known
    monkeypatch.setattr("secrets.token_hex", lambda size: "known")
    (run / ".a.known.partial").symlink_to(victim)
    with pytest.raises(WriteError, match="File exists"):
        write_text(run / "a", "text")
    assert victim.read_text() == "precious" and victim.parent.is_dir()


def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="no regular file"):
            write_text(tmp_path / name, "text")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


WRITE_FOREVER = """
import sys, time
from pathlib import Path
from ostinato.data.build_once import build_once
from ostinato.files import atomic
def build(place):
    (place / "part").write_text("half of it")
    with atomic(Path(sys.argv[1]) / ("x" * 255)) as file:
        file.write(b"half of i")
        print("writing", flush=True)
        time.sleep(600)
build_once(Path(sys.argv[1]) / "data", build, print)
"""


def test_what_a_kill_leaves_is_removed_and_what_others_write_is_not(tmp_path):
    (tmp_path / ".config.json.partial").write_text("of an earlier version")
    command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
            remove_partial_files(tmp_path)
            assert len(list(tmp_path.iterdir())) == 2, "the folder and the file being written"
        finally:
            os.kill(writer.pid, signal.SIGKILL)
    build_once(tmp_path / "data", lambda place: None, lambda line: None)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


@pytest.mark.parametrize(
    "array", [np.arange(30000.0).reshape(3, -1).T, np.zeros((0, 4), np.uint8), np.arange(3)]
)
def test_arrays_are_written_as_numpy_does(tmp_path, array):
    write_array(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", np.ascontiguousarray(array))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize(
    "text", ["../../evil", "/etc/passwd", "..", "", ".bashrc", "a\0b", "a\nb", "é" * 300, "-rf"]
)
def test_a_name_from_a_file_is_no_path(text):
    name = file_name(text)
    assert Path(name).name == name and 0 < len(name.encode()) < 200
    assert not name.startswith((".", "-")) and name.isprintable()
    assert file_name("sudoku9-large_v1.2") == "sudoku9-large_v1.2"


def test_an_unknown_home_is_a_mistake_with_a_remedy():
    with pytest.raises(ValueError, match=r"~nosuchuser/x.*write the path in full"):
        home_path("~nosuchuser/x")
