"""Wrong implementations that rows of "Data and names" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "digit d as token d",
        "data.sudoku.rules:Sudoku.parse",
        {"self.meaning[symbol] for": "self.meaning[symbol] - 1 for"},
        "Sudoku tokens",
    ),
    Mutant(
        "goal before start",
        "data.maze.rules:Maze.tokens",
        {"SYMBOLS.index(symbol)": "'?#.GSo'.index(symbol)"},
        "Maze tokens",
    ),
    Mutant(
        "examples of a puzzle in their order",
        "data.batches:_Stretch.examples",
        {"in_order[np.lexsort((keys, visit))][: end - begin]": "in_order[: end - begin]"},
        "Puzzles of several examples",
    ),
    Mutant(
        "an epoch of all examples",
        "data.puzzles:PuzzleSet.epoch_examples",
        {"self.num_groups * self.metadata.mean_puzzle_examples": "float(len(self))"},
        "Length of an epoch",
    ),
    Mutant(
        "names without the originals' prefix",
        "weights.official:to_official_name",
        {"PREFIX + ": ""},
        "Names of weights",
    ),
    Mutant(
        "labels 0 supervised",
        "data.batches:_gather",
        {"labels[labels == puzzles.metadata.ignore_label_id] = IGNORE_LABEL": "pass"},
        "Supervised cells",
    ),
    Mutant(
        "always a puzzle's first variant",
        "data.batches:_Stretch.__init__",
        {
            "chosen = puzzles.group_indices[groups] + variant": (
                "chosen = puzzles.group_indices[groups] + 0 * variant"
            )
        },
        "Order of training",
    ),
    Mutant(
        "groups drawn with replacement",
        "data.batches:_Stretch.__init__",
        {
            "self._rng.permuted(in_order, axis=1).ravel()": (
                "self._rng.choice(in_order.ravel(), in_order.size)"
            )
        },
        "Order of training",
    ),
    Mutant(
        "ranks take every n-th row",
        "data.batches:training_batches",
        {"slice(rank * local, (rank + 1) * local)": "slice(rank, None, world_size)"},
        "Shares of several processes",
    ),
    Mutant(
        "test batches filled up with real labels",
        "data.batches:_pad",
        {"value=IGNORE_LABEL": "value=1"},
        "Order of testing",
    ),
    Mutant(
        "columns permuted like rows",
        "data.sudoku.symmetry:draw_symmetries",
        {
            "rows, cols, digits = orders.unbind(1)": (
                "rows, cols, digits = orders.unbind(1); cols = digits"
            )
        },
        "Symmetries of Sudoku",
    ),
    Mutant(
        "never transposed",
        "data.sudoku.symmetry:draw_symmetries",
        {"transposed == 1": "transposed == 2"},
        "Symmetries of Sudoku",
    ),
]
