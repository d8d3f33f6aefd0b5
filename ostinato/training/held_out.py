"""Refuse to start from weights that have learnt what is held out: scores would mislead.

Other counts or another seed divide the same examples in another way. Training examples of the run
that `--init-from` names can then be validation or test examples of the new run.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.data.contradictions import hashes
from ostinato.data.drawn_rows import DrawnRows
from ostinato.data.prompts import PromptSet
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import find_task
from ostinato.data.text import TokenSet
from ostinato.data.text.hops import ExpressionSet
from ostinato.training.config import AnyRecipe, PromptRecipe, Recipe, TextRecipe, read_recipe
from ostinato.training.config_file import differences
from ostinato.training.run_folder import RunFolder, read_json
from ostinato.weights.files import locate

NOUNS: dict[type, str] = {Recipe: "puzzles", TextRecipe: "documents", PromptRecipe: "prompts"}
DIVIDING = {
    *("num_train", "num_validation", "num_test", "data_seed"),
    *("num_generated", "num_conversations"),
}
"""Settings by which the same examples are drawn and divided in another way."""
HARMLESS = {"augment", "num_aug", "too_long", "turn_tokens", "unsafe_sandbox"}
"""Settings that do not decide which examples are held out."""
Load = Callable[[Path, str], Any]
"""Folder of a data set and name of a split → the split."""


@dataclass(frozen=True)
class Recorded:
    """Hold the part of an entry in environment.json that is used; older runs lack it."""

    data: str = ""
    data_sha256: str = ""


@dataclass(frozen=True)
class Start:
    """Hold the recipe and the folder of the run that trained some weights."""

    folder: RunFolder
    recipe: AnyRecipe

    @classmethod
    def of(cls, source: str) -> "Start | None":
        """Return the run in whose folder the weights `source` lie; None if it is not known."""
        try:
            place = locate(source).parent
            folder = RunFolder(place.parent if place.name == "checkpoints" else place)
            return cls(folder, read_recipe(folder.config))
        except ValueError:  # such as a model that ships, or the config.json of an export
            return None

    @property
    def recorded(self) -> Recorded:
        """Return the record of the training data, which is empty for older runs."""
        path = self.folder.environment
        entries = read_json(path, list[Recorded]) if path.exists() else []
        return next((entry for entry in reversed(entries) if entry.data), Recorded())

    def train_set(self, root: Path, load: Load, report: Callable[[str], None]) -> Any:
        """Return the training split, from its folder or one of that name below `root`.

        An older run does not record the folder, so that its data are prepared from its settings, as
        `ostinato eval` does. Raises ValueError if the data are gone or have changed.
        """
        recorded, data = self.recorded, self.recipe.data
        if not recorded.data and not isinstance(self.recipe, TextRecipe):
            return load(data.prepare(root, report), "train")
        for place in (Path(recorded.data), root / Path(recorded.data).name):
            if recorded.data and place.is_dir():
                found = load(place, "train")
                if found.fingerprint == recorded.data_sha256:
                    return found
        raise ValueError(f"the data of {self.folder.path} are gone or have changed: restore them")


def check_unseen(
    recipe: AnyRecipe,
    data: Path,
    train_set: Any,
    root: Path,
    load: Load,
    report: Callable[[str], None],
) -> None:
    """Raise ValueError if `recipe` starts from weights that were trained on its held-out examples.

    Their run and those that it started from are compared with validation and test in the folder
    `data`, see `contents`. What the recipe trains on itself does not count. Report, in a line,
    weights whose training data are not known, gone or changed.
    """
    if recipe.training.init_from:
        locate(recipe.training.init_from)  # raises ValueError if there are no such weights
    noun = NOUNS[type(recipe)]
    for source, start in lineage(recipe.training.init_from):
        unsure = f"so it may have learnt some of the {noun} held out here"
        if start is None:
            report(f"{source} does not say what it was trained on, {unsure}")
            continue
        if type(start.recipe) is not type(recipe):
            continue  # such as a model of texts that learns from prompts
        try:
            if start.recorded.data_sha256 == train_set.fingerprint:
                continue
            learnt = contents(start.train_set(root, load, report), train_set)
        except ValueError:
            report(f"{source}: its training data are gone or have changed, {unsure}")
            continue
        for split in ("validation", "test"):
            if not any(data.glob(f"{split}*")):  # a data set built elsewhere may have no test
                continue
            held_out = contents(load(data, split), train_set)
            seen = held_out & learnt
            seen -= contents(train_set, train_set) if seen else seen
            if seen:
                raise ValueError(
                    f"{source} was trained on {len(seen):,} of the {len(held_out):,} {split} "
                    f"{noun}: {remedy(start.recipe, recipe)}"
                )


def lineage(source: str) -> Iterator[tuple[str, Start | None]]:
    """Yield the weights `source`, those that their run started from, and so on, with their runs."""
    known = set()
    while source and source not in known:
        known.add(source)
        start = Start.of(source)
        yield source, start
        source = start.recipe.training.init_from if start else ""


def remedy(before: AnyRecipe, recipe: AnyRecipe) -> str:
    """Return the settings of `before` that hold out the same examples, if there are such."""
    noun, changed = NOUNS[type(recipe)], differences(before.data, recipe.data)
    flags = [f"--{k.replace('_', '-')} {old}" for k, (old, _) in changed.items() if k in DIVIDING]
    if not flags or changed.keys() - DIVIDING - HARMLESS:
        return f"hold out {noun} that it has not seen, or start from other weights"
    return f"take its {' '.join(flags)}, so that the same {noun} are held out"


def contents(examples: Any, like: Any) -> set[Hashable]:
    """Return what tells the examples of a split from others; `like` is a split of the same data.

    Prompts and texts (whole documents) are compared as they are. For expressions nothing is
    returned: the hash of an expression says whether it is ever trained on.
    """
    if isinstance(examples, PuzzleSet):
        return puzzle_contents(examples, like)
    if isinstance(examples, PromptSet):
        return {prompt.text for prompt in examples.prompts}
    assert isinstance(examples, TokenSet)
    if isinstance(examples, ExpressionSet):
        return set()
    bounds = pairwise([*examples.documents.tolist(), len(examples.tokens)])
    documents = (examples.tokens[begin : end - 1] for begin, end in bounds)  # without separators
    return {hash(document.astype("<u4").tobytes()) for document in documents}


def puzzle_contents(puzzles: PuzzleSet, like: PuzzleSet) -> set[Hashable]:
    """Return numbers that equal puzzles share; none if the puzzles have another shape than `like`.

    Symmetric copies count as equal if the kind of `like` is known (`Task.signatures`), as they do
    when data are built. So the first puzzle of a group stands for its variants. Puzzles of an
    unknown kind are equal if question and answer are, token by token. The pairs of an ARC task are
    compared without their variants, input with output.
    """
    shapes = [(p.metadata.seq_len, p.metadata.vocab_size) for p in (puzzles, like)]
    if shapes[0] != shapes[1]:
        return set()
    if isinstance(puzzles.inputs, DrawnRows):
        grids = [(grid.shape, grid.tobytes()) for grid in puzzles.inputs.drawings.each]
        return set(zip(grids[::2], grids[1::2], strict=True))
    assert not isinstance(puzzles.labels, DrawnRows)
    if (task := find_task(like.metadata.task)) is None:
        keys = 3 * hashes(puzzles.inputs) + hashes(puzzles.labels)
        return set(np.unique(keys).tolist())
    firsts = puzzles.puzzle_indices[puzzles.group_indices[:-1]]
    inputs, labels = puzzles.inputs[firsts], puzzles.labels[firsts]
    if puzzles.metadata.ignore_label_id is not None:  # such as givens, which need no label
        labels = np.where(labels == puzzles.metadata.ignore_label_id, inputs, labels)
    return set(task.signatures(inputs, labels).tolist())
