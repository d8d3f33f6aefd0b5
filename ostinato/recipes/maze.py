"""Recipes for mazes.

An answer is exact if it is the label, cell by cell. A maze of 30×30 has very many shortest paths,
and the label is one of them: `ostinato eval` also counts answers that are any shortest path, or any
path.
"""

from dataclasses import replace

from ostinato.data.maze import MazeData
from ostinato.data.maze.dataset import HARD
from ostinato.models import TRMConfig
from ostinato.recipes.sizes import TINY
from ostinato.recipes.sudoku import LARGE_STEPS
from ostinato.training.config import Recipe, TrainingConfig


def maze_tiny() -> Recipe:
    """9×9 mazes without loops, in five minutes.

    On two CPU cores. It solves 98.0 % of 1,000 unseen mazes by the shortest path (96.9 – 98.7). A
    maze gets two steps at most: with more, most mazes leave before the last ones, which then go
    untrained and spoil what was right. 128 batches of slots take turns: with few, the weights learn
    by heart what these hold. Mazes with random walls (`--no-perfect --unique`) take far longer: 3.5
    % after four minutes.

    ostinato train maze-tiny --compile --time-limit 5m
    """
    return Recipe(
        name="maze-tiny",
        model=replace(TINY[0], task="maze9", vocab_size=6, seq_len=81, forward_dtype="auto"),
        data=MazeData(
            size=9,
            perfect=True,
            num_train=20_000,
            num_validation=200,
            num_test=1000,
            data_seed=1,
        ),
        training=replace(
            LARGE_STEPS,
            total_steps=4000,
            slot_turns=128,
            decay_by="time",
            eval_every=4000,
            checkpoint_every=1000,
        ),
    )


MAZE_HARD = MazeData(
    source=HARD,
    num_train=0,  # all 1000, as in the originals
    num_validation=200,
    num_test=0,  # all 1000
    validate_on="generated",
)


def maze_hard() -> Recipe:
    """TRM with attention on Maze-Hard, as released: for GPUs.

    Source: "Less is More" (arXiv 2510.04871) with the settings of its released code; `--L-cycles 6`
    is the number in the paper's text, which takes 7/5 of the time. Its 1000 training mazes are all
    used; 200 generated ones of the same distribution choose the checkpoint, where the original
    chose it on the test set. Symmetries are drawn at load time; the paper builds all eight. Theirs:
    85.3 % exact on the 1000 test mazes. Ours: not run yet.

    ostinato train maze-hard --compile
    torchrun --nproc-per-node 4 -m ostinato train maze-hard --compile
    """
    return Recipe(
        name="maze-hard",
        model=TRMConfig(task="maze30", vocab_size=6, seq_len=900, L_cycles=4, forward_dtype="auto"),
        data=MAZE_HARD,
        # 65,104 steps are 50,000 epochs of 1000 mazes in batches of 768, as the original plans
        training=TrainingConfig(total_steps=65_104, global_batch_size=768),
    )
