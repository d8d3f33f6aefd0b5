"""Recipes for HRM."""

from ostinato.data.sudoku import SudokuData
from ostinato.models import HRMConfig
from ostinato.training.config import Recipe, TrainingConfig


def hrm_sudoku_extreme() -> Recipe:
    """Sudoku-Extreme as the authors train HRM: 27 M weights, 1000 puzzles, 26,041 steps.

    Source: HRM (arXiv 2506.21734), the released Sudoku recipe. The authors report 55.0 % exact on
    the test split; about an hour of one H200. Not yet run here.

    ostinato train hrm-sudoku-extreme --compile
    """
    return Recipe(
        name="hrm-sudoku-extreme",
        model=HRMConfig(task="sudoku9"),
        data=SudokuData(source="sudoku-extreme", num_train=1000),
        training=TrainingConfig(total_steps=26_041, ema_decay=0.0),
    )
