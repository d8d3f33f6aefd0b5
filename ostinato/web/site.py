"""The page and a model as a folder that any web host can serve, also from a sub-path."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ostinato.data.boards import board_of
from ostinato.data.samples import LEVELS, sample_puzzles
from ostinato.data.tasks import task_named
from ostinato.files import atomic, make_folder
from ostinato.inference.search import CONFIRMED
from ostinato.models import RecursiveModel
from ostinato.web.program import Program, program_of
from ostinato.weights.onnx import in_float32
from ostinato.weights.onnx_model import OnnxModel

PAGE = files("ostinato.web") / "page"
PAGE_FILES = ("index.html", "style.css", "page.js", "worker.js", "rules.js", "tensors.js")
CHAT_FILES = ("style.css", "chat.js")
FORMS = (torch.float16, torch.bfloat16, torch.float32)
"""Forms of numbers; the first that loses nothing is taken."""
VIEWS = 8
"""Symmetric views that the page may try."""
SAMPLES = 12
"""Puzzles of each level on the page."""


def write_site(
    model: RecursiveModel,
    folder: Path,
    name: str,
    half: bool = False,
    puzzles: Iterable[str] = (),
) -> Path:
    """Write the page, `model.json` and `weights.bin` to `folder`; returns the page.

    Weights are held in two bytes where that loses nothing, or with `half` in any case.
    `puzzles` are offered beside generated ones. Raises ValueError if the page cannot run the model.
    """
    if isinstance(model, OnnxModel):
        raise ValueError("a page needs the model that the ONNX file was made of")
    if not model.is_plain:
        raise ValueError("the page has no random starts, damping or noise: use ostinato solve")
    board = board_of(model.config.task, model.config.seq_len, model.config.vocab_size)
    if board.kind == "grid" and any(len(symbol) > 1 for symbol in board.symbols):
        raise ValueError("the page reads one character a symbol: use ostinato solve for this table")
    program = program_of(in_float32(model))
    segments, weights = narrowed(program, half)
    description = describe_for_page(model, name, program, list(puzzles))
    contents = {name: (PAGE / name).read_bytes() for name in PAGE_FILES}
    contents["weights.bin"] = weights
    contents["model.json"] = written(description | {"segments": segments})
    return write_all(folder, contents, PAGE_FILES[0])


def write_chat(folder: Path, name: str, speaks: bool, page: str = "index.html") -> Path:
    """Write the chat page for a language model of the server; returns the page.

    Without `speaks`, the model only continues texts.
    """
    contents = {name: (PAGE / name).read_bytes() for name in CHAT_FILES}
    contents["chat.json"] = written({"name": name, "speaks": speaks})
    contents[page] = (PAGE / "chat.html").read_bytes()
    return write_all(folder, contents, page)


def written(content: dict[str, Any]) -> bytes:
    """Return compact JSON."""
    return json.dumps(content, separators=(",", ":")).encode()


def write_all(folder: Path, contents: dict[str, bytes], page: str) -> Path:
    """Write files; returns the path of one of them."""
    make_folder(folder)
    for name, content in contents.items():
        with atomic(folder / name) as file:
            file.write(content)
    return folder / page


def narrowed(program: Program, half: bool) -> tuple[list[dict[str, Any]], bytes]:
    """Return the constants in as few bytes as they need, and how many have which form."""
    segments: list[dict[str, Any]] = []
    parts = []
    for start, stop in zip(
        program.seams, [*program.seams[1:], len(program.constants)], strict=True
    ):
        numbers = torch.from_numpy(program.constants[start:stop])
        forms = (form for form in FORMS if (numbers.to(form).float() == numbers).all())
        form = torch.float16 if half else next(forms)
        parts.append(numbers.to(form).view(torch.uint8).numpy().tobytes())
        name = str(form).removeprefix("torch.")
        if segments and segments[-1]["form"] == name:
            segments[-1]["count"] += stop - start
        else:
            segments.append({"count": stop - start, "form": name})
    return segments, b"".join(parts)


def describe_for_page(
    model: RecursiveModel, name: str, program: Program, puzzles: list[str]
) -> dict[str, Any]:
    """All that the page needs to know."""
    config = model.config
    max_passes = config.H_cycles * config.halt_max_steps
    parameters = sum(p.numel() for p in model.parameters())
    written = asdict(program)
    del written["constants"], written["seams"]
    return {
        "name": name,
        "about": f"a network of {parameters / 1e6:.2g} million weights that solves a puzzle by "
        "going over its own answer again and again",
        **asdict(board_of(config.task, config.seq_len, config.vocab_size)),
        "samples": samples_of(config.task, puzzles),
        "views": views_of(config.task),
        "H_cycles": config.H_cycles,
        "max_passes": max_passes,
        "patience": min(CONFIRMED.patience, max_passes),
        "q_continue": not config.no_ACT_continue,
        "length": config.prefix_len + config.seq_len,
        "z_H": model.H_init.float().tolist(),
        "z_L": model.L_init.float().tolist(),
        "program": written,
    }


def samples_of(task_name: str, puzzles: list[str]) -> dict[str, list[str]]:
    """Written puzzles by level; first those that were given."""
    found = {"yours": puzzles} if puzzles else {}
    if not task_name:
        return found
    task = task_named(task_name)
    for seed, level in enumerate(LEVELS):
        try:
            rows = sample_puzzles(task, level, SAMPLES, seed)
        except ValueError:  # no generator, or none so hard
            continue
        found[level] = [task.format(row) for row in rows]
    return found


def views_of(task_name: str) -> list[dict[str, list[int]]]:
    """Some symmetries of a kind of puzzle, as `ostinato.data.symmetries` writes them."""
    if not task_name or not task_named(task_name).is_symmetric:
        return []
    drawn = task_named(task_name).symmetries(VIEWS, torch.Generator().manual_seed(0))
    return [
        {"source": source, "names": names}
        for source, names in zip(drawn.source.tolist(), drawn.names.tolist(), strict=True)
    ]
