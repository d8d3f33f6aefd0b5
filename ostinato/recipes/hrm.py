"""Recipes for HRM.

Accuracies are exact matches on unseen puzzles; docs/results.md says how they were measured.
"""

from dataclasses import replace

from ostinato.data.sudoku import SudokuData
from ostinato.models import HRMConfig
from ostinato.recipes.arc import arc_1, arc_2
from ostinato.recipes.maze import MAZE_HARD, maze_tiny
from ostinato.recipes.sudoku import SMALL
from ostinato.training.config import Recipe, TrainingConfig


def hrm_sudoku4_tiny() -> Recipe:
    """HRM on 4×4 Sudoku, in five minutes at most.

    It solves 98.3 % of 1,000 unseen puzzles (97.3 – 98.9) after 72 seconds of CPU time, in one
    thread. Positions are learned: with rotary ones, as its authors use, training takes longer. Four
    batches of slots take turns, so that a small batch is not learned by heart.

    ostinato train hrm-sudoku4-tiny
    """
    return Recipe(
        name="hrm-sudoku4-tiny",
        model=HRMConfig(
            task="sudoku4",
            vocab_size=6,
            seq_len=16,
            hidden_size=64,
            num_heads=4,
            H_layers=1,
            L_layers=1,
            pos_encodings="learned",
            puzzle_emb_ndim=64,
            halt_max_steps=8,
            forward_dtype="float32",
        ),
        data=SudokuData(
            size=4, min_givens=4, max_givens=10, num_train=1500, num_validation=200, num_test=1000
        ),
        training=replace(
            SMALL, total_steps=1500, slot_turns=4, eval_every=250, checkpoint_every=250
        ),
    )


def hrm_maze_tiny() -> Recipe:
    """HRM on 9×9 mazes without loops: the twin of maze-tiny.

    It has the same data, steps and width, and a block in each of its two modules. With these
    settings it learns far more slowly: 2.5 % of 200 unseen mazes after 2,708 steps.

    ostinato train hrm-maze-tiny --compile --time-limit 5m
    """
    twin = maze_tiny()
    return replace(
        twin,
        name="hrm-maze-tiny",
        model=replace(
            hrm_sudoku4_tiny().model,
            task="maze9",
            seq_len=81,
            halt_max_steps=2,
            forward_dtype="auto",
        ),
    )


def hrm_sudoku_extreme() -> Recipe:
    """HRM on 1000 Sudoku-Extreme puzzles, as released: for a GPU.

    Source: "Hierarchical Reasoning Model" (arXiv 2506.21734), 27 M weights, with the settings of
    its released code; 1000 other training rows choose the checkpoint, where the original took the
    test set. Theirs: 55.0 % of the 422,786 test puzzles, in about an hour on one H200; runs of
    others gave 45.8 to 57.5 %. Ours: not run yet.

    ostinato train hrm-sudoku-extreme --compile
    """
    return Recipe(
        name="hrm-sudoku-extreme",
        model=HRMConfig(task="sudoku9", forward_dtype="auto"),
        data=SudokuData(
            source="sudoku-extreme",
            num_train=1000,
            num_validation=1000,
            num_test=0,  # all 422,786
        ),
        # 26,041 steps are 20,000 epochs of 1000 puzzles in batches of 768, as the original plans
        training=TrainingConfig(total_steps=26_041, global_batch_size=768, ema_decay=0.0),
    )


def hrm_maze_hard() -> Recipe:
    """HRM on Maze-Hard, as released: for GPUs.

    Source: HRM (arXiv 2506.21734), 27 M weights, the released settings, 26,041 steps, without
    symmetries as its builder's default. Theirs: 74.5 % exact on the 1000 test mazes. Ours: not run
    yet.

    ostinato train hrm-maze-hard --compile
    torchrun --nproc-per-node 8 -m ostinato train hrm-maze-hard --compile
    """
    return Recipe(
        name="hrm-maze-hard",
        model=HRMConfig(task="maze30", vocab_size=6, seq_len=900, forward_dtype="auto"),
        data=replace(MAZE_HARD, augment=False),
        # 20,000 epochs of 1000 mazes in batches of 768
        training=TrainingConfig(total_steps=26_041, ema_decay=0.0),
    )


def hrm_arc_1() -> Recipe:
    """HRM on ARC-AGI-1, as released: for GPUs.

    Source: HRM (arXiv 2506.21734), 27 M weights, the released settings. Theirs: 40.3 % at pass@2 on
    the 400 evaluation tasks, about a day of eight H100. Ours: not run yet.

    ostinato train hrm-arc-1 --extra CONCEPT_ARC --compile
    torchrun --nproc-per-node 8 -m ostinato train hrm-arc-1 --extra CONCEPT_ARC --compile
    """
    recipe = arc_1()
    return Recipe(
        name="hrm-arc-1",
        model=HRMConfig(
            vocab_size=12,
            seq_len=900,
            num_puzzle_identifiers=recipe.model.num_puzzle_identifiers,
            forward_dtype="auto",
        ),
        data=recipe.data,
        training=replace(recipe.training, total_steps=519_000, ema_decay=0.0),
    )


def hrm_arc_2() -> Recipe:
    """HRM on ARC-AGI-2, as released: for GPUs.

    Source: as for hrm-arc-1. Theirs: 5.0 % at pass@2 on the 120 evaluation tasks. Ours: not run
    yet.

    ostinato train hrm-arc-2 --extra CONCEPT_ARC --compile
    torchrun --nproc-per-node 8 -m ostinato train hrm-arc-2 --extra CONCEPT_ARC --compile
    """
    recipe = hrm_arc_1()
    return replace(
        recipe,
        name="hrm-arc-2",
        model=replace(recipe.model, num_puzzle_identifiers=arc_2().model.num_puzzle_identifiers),
        data=arc_2().data,
    )
