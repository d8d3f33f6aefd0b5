"""Tokens, labels, order of examples, symmetries, and the originals' names."""

import math

import numpy as np
import torch

from ostinato.data.batches import TrainingOrder, test_batches, training_batches
from ostinato.data.maze import Maze
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import Sudoku
from ostinato.models import HRM, Output, State
from ostinato.training.slots import Slots
from ostinato.verify.check import apart, check
from ostinato.verify.replay import METRICS, OFFICIAL_SLOTS, SLOT_TENSORS
from ostinato.verify.specimens import MODELS, specimen
from ostinato.weights.official import to_official_name

TITLE = "Data and names"
SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


@check("Sudoku tokens", "001 002", "0 pad, 1 blank, digit + 1; vocabulary 11; 81 cells")
def tokens() -> float:
    """Tokens of a written board that differ."""
    sudoku, text = Sudoku(9), ".3" + SOLVED[2:40] + "0" + SOLVED[41:]
    expected = [1 if symbol in ".0" else int(symbol) + 1 for symbol in text]
    return apart(sudoku.parse(text), expected) + abs(sudoku.vocab_size - 11)


@check("Maze tokens", "", "0 pad, then # free S G and o; vocabulary 6; the label marks the path")
def maze_tokens() -> float:
    """Tokens of a written maze and of its answer that differ."""
    maze = Maze(3)
    wrong = apart(maze.parse("S # ##  G"), [3, 2, 1, 2, 1, 1, 2, 2, 4]) + abs(maze.vocab_size - 6)
    return wrong + apart(maze.parse_answer("S #o##ooG"), [3, 2, 1, 5, 1, 1, 5, 5, 4])


@check("Supervised cells", "001 002", "all 81 of a Sudoku; elsewhere ignore_label_id → -100")
def supervised() -> float:
    """Labels that differ in the batches of a Sudoku set, and of one that ignores token 3."""
    board = Sudoku(9).parse(SOLVED)[None]
    sudoku = PuzzleSet.of_examples("sudoku9", board, board, 11)
    wrong = apart(next(test_batches(sudoku, 1))[0].labels, board)
    some = puzzle_set(np.array([[1, 3, 2, 3]]), [0, 1], [0, 1], ignore_label_id=3)
    return wrong + apart(next(test_batches(some, 1))[0].labels, [[1, -100, 2, -100]])


def puzzle_set(
    examples: np.ndarray, puzzle_indices: list[int], group_indices: list[int], **metadata
) -> PuzzleSet:
    """Examples that are their own answers; puzzle p has id p + 1."""
    facts = {"vocab_size": 200, "seq_len": examples.shape[1], "num_puzzle_identifiers": 50}
    return PuzzleSet.assemble(
        Metadata(**facts | metadata),  # pyright: ignore[reportArgumentType]
        inputs=examples,
        labels=examples,
        puzzle_identifiers=np.arange(1, len(puzzle_indices)),
        puzzle_indices=np.array(puzzle_indices),
        group_indices=np.array(group_indices),
    )


def numbered(count: int) -> np.ndarray:
    """Examples of one token each, by which they are recognised."""
    return np.arange(1, count + 1)[:, None]


@check("Order of training", "002", "every group once an epoch, in random order, a random variant")
def training_order() -> int:
    """Epochs that miss a group, and variants whose share is 5 standard deviations off."""
    count, variants = 7, 3
    some = puzzle_set(
        numbered(count * variants),
        list(range(count * variants + 1)),
        list(range(0, count * variants + 1, variants)),
    )
    order, wrong, drawn, firsts = TrainingOrder(some, count, 0).batches(), 0, [], set()
    for _ in range(300):
        examples = next(order)
        wrong += sorted(examples // variants) != list(range(count))
        drawn += list(examples % variants)
        firsts.add(int(examples[0]) // variants)
    for variant in range(variants):
        share = drawn.count(variant) / len(drawn)
        wrong += abs(share - 1 / 3) > 5 * math.sqrt(2 / 9 / len(drawn))
    return wrong + (len(firsts) != count)


@check("Puzzles of several examples", "001", "in random order, until the global batch is full")
def examples_of_a_puzzle() -> int:
    """Batches of 3 from puzzles of 2 that are not one whole puzzle and half another."""
    some = puzzle_set(numbered(8), [0, 2, 4, 6, 8], [0, 1, 2, 3, 4])
    batches, wrong, orders = training_batches(some, 3, 0), 0, set()
    for _ in range(60):
        found = next(batches)
        values, ids = found.inputs[:, 0].tolist(), found.puzzle_ids.tolist()
        wrong += ids != [(value + 1) // 2 for value in values] or len(set(values)) != 3
        wrong += ids[0] != ids[1] or ids[1] == ids[2]
        orders.add(values[0] < values[1])
    return wrong + (len(orders) != 2)


@check("Shares of several processes", "001", "rank r takes the r-th contiguous part of a batch")
def shares() -> float:
    """Rows that differ from the batch of one process."""
    some = puzzle_set(numbered(12), list(range(13)), list(range(13)))
    whole, wrong = training_batches(some, 6, 4), 0.0
    parts = [training_batches(some, 6, 4, rank=rank, world_size=3) for rank in range(3)]
    for _ in range(5):
        joined = torch.cat([next(part).inputs for part in parts])
        wrong += apart(joined, next(whole).inputs)
    return wrong


@check("Order of testing", "002", "sequential; filled up with pads, ignored labels, blank id")
def testing_order() -> float:
    """Rows that differ for 5 examples in batches of 2 for each of 2 processes."""
    some = puzzle_set(numbered(5), list(range(6)), list(range(6)), pad_id=9)
    wrong, expected = 0.0, [[([1, 2], 2), ([5, 9], 1)], [([3, 4], 2), ([9, 9], 0)]]
    for rank, wanted in enumerate(expected):
        for (found, real), (values, count) in zip(
            test_batches(some, 2, rank, 2), wanted, strict=True
        ):
            empty = [i >= count for i in range(2)]
            labels = [-100 if gone else v for v, gone in zip(values, empty, strict=True)]
            ids = [0 if gone else v for v, gone in zip(values, empty, strict=True)]
            wrong += apart(found.inputs[:, 0], values) + apart(found.labels[:, 0], labels)
            wrong += apart(found.puzzle_ids, ids) + abs(real - count)
    return wrong


@check("Symmetries of Sudoku", "001", "digits, bands, rows, stacks, columns; transposed with ½")
def symmetries() -> int:
    """Copies that break a rule or change a given; shares of transposition and digits 5 σ off."""
    count, sudoku = 2000, Sudoku(9)
    solved = torch.from_numpy(sudoku.parse(SOLVED))
    puzzle = torch.where(torch.arange(81) < 9, solved, 1)  # the first row is given
    questions, answers = puzzle.expand(count, 81), solved.expand(count, 81)
    inputs, labels = sudoku.augment(questions, answers, torch.Generator().manual_seed(0))
    digits, wrong = list(range(2, 11)), 0
    for unit in sudoku_units():
        wrong += int((labels[:, unit].sort(dim=1).values != torch.tensor(digits)).any(1).sum())
    given = inputs > 1
    wrong += int((inputs != labels)[given].sum()) + int((given.sum(1) != 9).sum())
    grid = given.view(count, 9, 9)
    as_row, as_column = grid.any(2).sum(1) == 1, grid.any(1).sum(1) == 1
    wrong += int((as_row == as_column).sum())
    share = as_column.double().mean().item()
    wrong += abs(share - 0.5) > 5 * math.sqrt(0.25 / count)
    first = (labels[:, 0, None] == torch.tensor(digits)).double().mean(0)
    return wrong + int(((first - 1 / 9).abs() > 5 * math.sqrt(8 / 81 / count)).sum())


def sudoku_units() -> list[list[int]]:
    """The cells of all rows, columns and boxes."""
    lines = [[9 * i + j for j in range(9)] for i in range(9)]
    columns = [list(column) for column in zip(*lines, strict=True)]
    corners = [27 * band + 3 * stack for band in range(3) for stack in range(3)]
    boxes = [[corner + 9 * i + j for i in range(3) for j in range(3)] for corner in corners]
    return lines + columns + boxes


@check("Length of an epoch", "002", "groups · mean examples of a puzzle")
def epoch() -> float:
    """The difference for 2 groups of 1 and 2 puzzles with 5 examples in all."""
    some = puzzle_set(numbered(5), [0, 2, 4, 5], [0, 1, 3])
    return abs(some.epoch_examples - 2 * 5 / 3)


@check("Names of weights", "004", "the originals' checkpoints, name by name", 0.0, MODELS)
def weight_names(name: str) -> int:
    """Names that only one side has."""
    model = specimen(name)
    outer = ["embed_tokens.embedding_weight", "lm_head.weight", "q_head.weight", "q_head.bias"]
    outer += ["puzzle_emb.weights", "H_init", "L_init"]
    mixer = ["self_attn.qkv_proj", "self_attn.o_proj"]
    if name == "TRM-MLP":
        mixer = ["mlp_t.gate_up_proj", "mlp_t.down_proj"]
    layers = {"L_level": model.config.L_layers}
    if isinstance(model, HRM):
        layers["H_level"] = model.config.H_layers
    for level, count in layers.items():
        for part in [*mixer, "mlp.gate_up_proj", "mlp.down_proj"]:
            outer += [f"{level}.layers.{i}.{part}.weight" for i in range(count)]
    expected = {f"_orig_mod.model.inner.{name}" for name in outer}
    return len(expected ^ {to_official_name(name) for name in model.state_dict()})


@check("Names of outputs, carry and metrics", "004", "a counterpart of each of the originals'")
def output_names() -> int:
    """Count the names without a counterpart."""
    outputs = {"logits": "logits", "q_halt_logits": "q_halt", "q_continue_logits": "q_continue"}
    metrics = "count accuracy exact_accuracy q_halt_accuracy steps lm_loss q_halt_loss".split()
    carry = {"z_H", "z_L", "steps", "halted", "inputs", "labels", "puzzle_identifiers"}
    held = {*State._fields, *Slots.__dataclass_fields__} - {"state"}
    wrong = len(set(outputs.values()) ^ set(Output._fields))
    wrong += len({*metrics, "q_continue_loss"} ^ set(METRICS))
    wrong += len(carry ^ {OFFICIAL_SLOTS.get(key, key) for key in SLOT_TENSORS})
    return wrong + len(set(SLOT_TENSORS) ^ held)
