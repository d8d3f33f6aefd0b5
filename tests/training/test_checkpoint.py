"""Checkpoints come back bit for bit, and no kill, full disk or flipped bit goes unnoticed."""

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ostinato.training.checkpoint import (
    DTYPES,
    CheckpointError,
    Checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def assert_same(left: object, right: object) -> None:
    """Equal in type and in every bit, tensors, NaN and the order of keys included."""
    assert type(left) is type(right)
    if isinstance(left, Tensor):
        assert isinstance(right, Tensor)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))
    elif isinstance(left, dict):
        assert isinstance(right, dict)
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert isinstance(right, (list, tuple))
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, float):
        assert isinstance(right, float)
        assert left == right or (math.isnan(left) and math.isnan(right))
        assert math.copysign(1, left) == math.copysign(1, right) or math.isnan(left)
    else:
        assert left == right


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any dtype, any bits, 0 to 3 dimensions, empty ones too."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * dtype.itemsize
    if dtype is torch.bool:
        return torch.tensor([draw(st.booleans()) for _ in range(size)]).bool().reshape(shape)
    content = bytearray(draw(st.binary(min_size=size, max_size=size)))
    flat = torch.frombuffer(content, dtype=torch.uint8) if size else torch.empty(0).byte()
    return flat.view(dtype).reshape(shape)


# Beyond what JSON readers hold exactly, and beyond what Python writes in decimal digits
huge = st.builds(
    lambda bits, sign: sign * 2**bits, st.sampled_from([53, 64, 20000]), st.sampled_from([1, -1])
)
scalars = st.none() | st.booleans() | st.integers() | huge | st.floats() | st.text()
trees = st.dictionaries(
    st.text(),
    st.recursive(
        scalars | tensors(),
        lambda node: (
            st.lists(node, max_size=4)
            | st.lists(node, max_size=4).map(tuple)
            | st.dictionaries(st.text("a./~_0"), node, max_size=4)
            | st.dictionaries(st.integers(), node, max_size=4)
        ),
        max_leaves=12,
    ),
    max_size=5,
)


@settings(
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tree=trees)
def test_round_trip(tmp_path, tree):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)  # a hundred flushes take seconds
        save_checkpoint(tmp_path / "a.safetensors", tree)
    assert_same(load_checkpoint(tmp_path / "a.safetensors"), tree)


def test_state_dicts_round_trip_and_shared_tensors_stay_shared(tmp_path):
    torch.manual_seed(0)
    layer, tied = nn.Linear(3, 3), nn.Linear(3, 3)
    tied.weight = layer.weight
    model = nn.Sequential(layer, tied).double()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    layer(torch.ones(2, 3).double()).sum().backward()
    optimizer.step()
    weight = layer.weight.detach()
    tree = {
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "view": weight[1:],
        "transposed": weight.T,
        "expanded": torch.ones(3).double().expand(2, 3),
    }
    save_checkpoint(tmp_path / "a.safetensors", tree)
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert_same(loaded, tree)
    assert loaded["model"]["0.weight"] is loaded["model"]["1.weight"]
    assert loaded["view"].data_ptr() != loaded["model"]["0.weight"][1:].data_ptr()
    optimizer.load_state_dict(loaded["optimizer"])


def test_any_safetensors_reader_finds_the_tensors_by_their_path(tmp_path):
    tree = {"model": {"layers.0": {"weight": torch.arange(3.0)}, "a/b~": torch.tensor(1)}}
    save_checkpoint(tmp_path / "a.safetensors", tree | {"states": [None, torch.tensor(2.0)]})
    found = load_file(tmp_path / "a.safetensors")
    assert set(found) == {"model/layers.0/weight", "model/a~1b~0", "states/1"}
    assert found["model/layers.0/weight"].tolist() == [0.0, 1.0, 2.0]


def test_tensors_are_aligned_in_the_file(tmp_path):
    sizes = (torch.uint8, torch.float64, torch.bfloat16, torch.float32)
    tree = {str(dtype): torch.ones(3, dtype=dtype) for dtype in sizes}
    save_checkpoint(tmp_path / "a.safetensors", tree)
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for dtype in sizes:
        assert (8 + length + header[str(dtype)]["data_offsets"][0]) % dtype.itemsize == 0


@pytest.mark.parametrize(
    "leaf", [object(), {1, 2}, {1: 0, "1": 0}, {True: 0}, torch.ones(1, dtype=torch.complex128)]
)
def test_what_cannot_be_stored_is_refused_by_name(tmp_path, leaf):
    with pytest.raises(TypeError, match="state/x"):
        save_checkpoint(tmp_path / "a.safetensors", {"state": {"x": leaf}})
    assert list(tmp_path.iterdir()) == []


EXAMPLE = {
    "model": {"weight": torch.arange(40.0).reshape(5, 8), "bias": torch.ones(3).bfloat16()},
    "count": torch.tensor(7),
    "name": "é",
    "step": 3,
}


@pytest.fixture(scope="module")
def example_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("example") / "a.safetensors"
    save_checkpoint(path, EXAMPLE)
    return path.read_bytes()


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_flipped_bit_is_noticed(tmp_path, example_bytes, data):
    path = tmp_path / "a.safetensors"
    content = bytearray(example_bytes)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_truncated_or_longer_file_is_noticed(tmp_path, example_bytes, data):
    path, content = tmp_path / "a.safetensors", example_bytes
    length = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(
        data.draw(st.sampled_from([content[:length], content + content[:length] + b"!"]))
    )
    with pytest.raises(CheckpointError, match=r"a\.safetensors.*use another one"):
        load_checkpoint(path)


def test_foreign_files_are_refused_with_a_remedy(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match=r"no checkpoint .*a\.safetensors"):
        load_checkpoint(path)
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="give a file of RUN/checkpoints"):
        load_checkpoint(path)
    save_file({"weight": torch.ones(2)}, path, {"ostinato_checkpoint": "99"})
    with pytest.raises(CheckpointError, match=r"format '99'.*use the version that wrote it"):
        load_checkpoint(path)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk, a write beyond `size` bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_keeps_the_previous_checkpoint_and_says_so(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    first = checkpoints.save(1, EXAMPLE)
    with largest_file(100_000), pytest.raises(CheckpointError) as caught:
        checkpoints.save(2, {"weight": torch.ones(1_000_000)})
    assert "step-00000001.safetensors is still there" in str(caught.value)
    assert "4.0 MB" in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert_same(load_checkpoint(first), EXAMPLE)


def test_a_disk_that_fills_up_at_the_flush(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; there is no earlier one"):
        save_checkpoint(tmp_path / "a.safetensors", EXAMPLE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not make .*: Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints", keep=1).save(1, EXAMPLE)


def test_the_last_ones_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert checkpoints.paths() == []
    assert checkpoints.latest(pytest.fail) is None
    for step in (5, 10, 99_999_999, 100_000_000):
        checkpoints.save(step, {"step": step})
    assert [path.name for path in checkpoints.paths()] == [
        "step-99999999.safetensors",
        "step-100000000.safetensors",
    ]
    latest = checkpoints.latest(pytest.fail)
    assert latest is not None and load_checkpoint(latest) == {"step": 100_000_000}
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path, keep=0)


def test_a_damaged_newest_one_is_reported_and_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    paths = [checkpoints.save(step, EXAMPLE) for step in (1, 2, 3)]
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-1])
    messages: list[str] = []
    assert checkpoints.latest(messages.append) == paths[0]
    assert [("step-00000003" in text, "step-00000002" in text) for text in messages] == [
        (True, False),
        (False, True),
    ]
    assert not any("\n" in text for text in messages)


def test_pruning_spares_the_last_readable_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    paths = [checkpoints.save(step, EXAMPLE) for step in (1, 2, 3)]
    for path in paths[1:]:
        path.write_bytes(b"damaged")
    fewer = Checkpoints(tmp_path, keep=1)
    fewer.prune()
    assert fewer.paths() == [paths[0], paths[2]]
    assert fewer.latest(lambda message: None) == paths[0]


def test_a_run_taken_up_earlier_leaves_its_former_future(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (100, 200, 300):
        checkpoints.save(step, {"course": "first"})
    checkpoints.save(250, {"course": "second"})
    assert [path.name for path in checkpoints.paths()] == [
        "step-00000200.safetensors",
        "step-00000250.safetensors",
    ]


SAVE_FOREVER = """
import os, sys, torch
from pathlib import Path
from ostinato.training.checkpoint import Checkpoints
torch.set_num_threads(1)
for line in sys.stdin:
    folder = Path(line.strip())
    child = os.fork()
    if child == 0:
        checkpoints = Checkpoints(folder / "checkpoints", keep=2)
        with open(folder / "saved", "w") as saved:
            for step in range(1, 10**6):
                checkpoints.save(step, {"a": torch.full((200_000,), step), "step": step})
                print(step, file=saved, flush=True)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_kill_9_while_saving(tmp_path):
    chance = random.Random(0)
    interrupted = 0
    with subprocess.Popen(
        [sys.executable, "-c", SAVE_FOREVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as nursery:
        assert nursery.stdin and nursery.stdout
        for number in range(12):
            folder = tmp_path / str(number)
            folder.mkdir()
            print(folder, file=nursery.stdin, flush=True)
            child = int(nursery.stdout.readline())
            while not (folder / "saved").exists() or not (folder / "saved").read_text():
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert nursery.stdout.readline() == "ended\n"
            interrupted += check_after_kill(folder)
        nursery.stdin.close()
    assert interrupted > 0, "no kill has hit a save"


def check_after_kill(folder: Path) -> bool:
    """The last checkpoint announced is there, whole, and leftovers go. Was a save interrupted?"""
    announced = int((folder / "saved").read_text().splitlines()[-1])
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    leftovers = list(checkpoints.folder.glob(".*"))
    latest = checkpoints.latest(pytest.fail)
    assert latest is not None
    tree = load_checkpoint(latest)
    assert tree["step"] in (announced, announced + 1)
    assert (tree["a"] == tree["step"]).all()
    checkpoints.save(tree["step"] + 100, tree)
    assert not list(checkpoints.folder.glob(".*"))
    return bool(leftovers)
