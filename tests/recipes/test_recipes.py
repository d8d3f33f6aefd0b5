"""Every recipe builds what it says; the published ones have the published sizes and settings."""

import ast
import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from ostinato import cli
from ostinato.data.arc.dataset import ArcData
from ostinato.data.built import BuiltData
from ostinato.data.maze import MazeData
from ostinato.data.prompts import PromptData
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import SudokuData
from ostinato.data.text import TextData
from ostinato.models import MODELS, HRMConfig, NanoChat, RecursiveModel
from ostinato.recipes import all_recipes, recipe_named, recipes
from ostinato.training.config import AnyRecipe, TrainingConfig, read_recipe, with_dtypes
from ostinato.training.config_file import write_config
from ostinato.training.puzzles import check_fits
from ostinato.training.run import run

NAMES = sorted(all_recipes())
ELSEWHERE = {"nanochat-tiny", "miniarc-tiny"}
"""The first is trained in test_text; the second needs files that are not in the package."""
TINY = [name for name in NAMES if name.endswith("-tiny") and name not in ELSEWHERE]


def model_of(recipe: AnyRecipe) -> RecursiveModel | NanoChat:
    model_class = next(cls for cls, kind in MODELS.values() if type(recipe.model) is kind)
    return model_class(with_dtypes(recipe, torch.device("cpu")).model)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_whole(name: str, tmp_path: Path):
    recipe = recipe_named(name)
    assert recipe.name == name
    write_config(tmp_path / "config.json", recipe)
    assert read_recipe(tmp_path / "config.json") == recipe
    with torch.device("meta"):
        model = model_of(recipe)
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_its_model_fits_its_data(name: str):
    recipe = recipe_named(name)
    if isinstance(recipe.data, ArcData):
        return  # see test_settings_of_arc; the tiny one is trained below
    if isinstance(recipe.data, TextData):
        assert recipe.data.num_tokens <= recipe.model.vocab_size
        return
    if isinstance(recipe.data, PromptData):
        assert recipe.data.task.tokenizer().vocab_size == recipe.model.vocab_size
        return
    if name in ("table", "puzzle", "nanochat-chat"):
        return  # the user gives the sizes: see test_train_table, test_own_kinds, test_conversations
    assert isinstance(recipe.data, BuiltData)
    task = recipe.data.task
    assert recipe.model.task == task.name
    assert (recipe.model.vocab_size, recipe.model.seq_len) == (task.vocab_size, task.seq_len)


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_says_what_it_is_and_how_to_run_it(name: str):
    lines = (all_recipes()[name].__doc__ or "").splitlines()
    assert lines[0].endswith(".") and lines[0] == recipes()[name]
    commands = [line.strip() for line in lines if line.strip().startswith("ostinato ")]
    assert commands and commands[0].startswith(f"ostinato train {name}")
    for command in commands:
        cli.parse(command.split()[1:])


def kinds_of_settings() -> dict[str, type]:
    made = [recipe_named(name) for name in NAMES]
    parts = (part for r in made for part in (r.model, r.data, r.training))
    return {type(part).__name__: type(part) for part in parts}


@pytest.mark.parametrize("kind", kinds_of_settings().values(), ids=kinds_of_settings())
def test_every_setting_has_a_line_of_help(kind: type):
    explained: set[str] = set()
    for owner in filter(is_dataclass, kind.__mro__):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body  # pyright: ignore
        for setting, text in pairwise(body):
            if isinstance(setting, ast.AnnAssign) and isinstance(text, ast.Expr):
                explained.add(ast.unparse(setting.target))
    assert {field.name for field in fields(kind)} <= explained


@pytest.mark.parametrize("name", TINY)
def test_tiny_ones_train(name: str, tmp_path: Path):
    recipe = recipe_named(name)
    data = recipe.data
    if not isinstance(data, ArcData):
        data = replace(data, num_train=40, num_validation=10, num_test=10)
    recipe = replace(
        recipe,
        data=data,
        training=replace(recipe.training, total_steps=3, global_batch_size=16, device="cpu"),
    )
    outcome = run(recipe, tmp_path / "run", tmp_path / "data", report=lambda line: None)
    assert outcome.finished and outcome.step == 3 and outcome.best >= 0
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sudoku-extreme-mlp", 5_028_866),
        ("sudoku-extreme-attention", 6_828_034),
        # Blocks without the 16 prefix tokens, embedding and head of 11 tokens, q head
        ("sudoku-extreme-eqr", 2 * 3 * (81 * 256 + 512 * 1536) + 2 * 11 * 512 + 2 * 513),
        # Five tokens less than Sudoku has, as rows of the embedding and of the head
        ("maze-hard", 6_828_034 - 2 * 5 * 512),
        ("hrm-maze-hard", 27_275_266 - 2 * 5 * 512),
    ],
)
def test_sizes_are_the_published_ones(name: str, parameters: int):
    """Without the puzzle embedding, a buffer here."""
    with torch.device("meta"):
        model = model_of(recipe_named(name))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", ["sudoku-extreme-mlp", "sudoku-extreme-attention"])
def test_settings_are_those_of_the_released_code(name: str):
    recipe = recipe_named(name)
    model, training = recipe.model, recipe.training
    assert (model.H_cycles, model.L_cycles, model.L_layers, model.halt_max_steps) == (3, 6, 2, 16)
    assert (model.hidden_size, model.num_heads, model.expansion) == (512, 8, 4.0)
    assert (model.puzzle_emb_ndim, model.puzzle_emb_len, model.q_outputs) == (512, 16, 2)
    assert (model.no_ACT_continue, model.forward_dtype) == (True, "auto")
    assert with_dtypes(recipe, torch.device("cuda")).model.forward_dtype == "bfloat16"
    assert isinstance(recipe.data, SudokuData)
    assert training.total_steps == 50_000 * recipe.data.num_train // training.global_batch_size
    assert (training.global_batch_size, training.optimizer) == (768, "adam_atan2")
    assert (training.lr, training.puzzle_emb_lr) == (1e-4, 1e-4)
    assert (training.weight_decay, training.puzzle_emb_weight_decay) == (1.0, 1.0)
    assert (training.beta1, training.beta2, training.grad_clip) == (0.9, 0.95, 0.0)
    assert (training.warmup_steps, training.lr_min_ratio, training.ema_decay) == (2000, 1.0, 0.999)
    assert (training.loss_type, training.q_weight) == ("stablemax_cross_entropy", 0.5)
    assert (training.halt_exploration_prob, training.label_smoothing) == (0.1, 0.0)
    assert (recipe.data.source, recipe.data.num_train) == ("sudoku-extreme", 1000)
    assert recipe.data.num_test == 0, "all of them"


@pytest.mark.parametrize(
    ("name", "cycles", "layers", "epochs", "ema"),
    [
        ("maze-hard", (3, 4), 2, 50_000, 0.999),
        ("hrm-maze-hard", (2, 2), 4, 20_000, 0.0),
    ],
)
def test_settings_of_maze_hard(name, cycles, layers, epochs, ema):
    recipe = recipe_named(name)
    model, training = recipe.model, recipe.training
    assert (model.H_cycles, model.L_cycles) == cycles
    assert (model.L_layers, model.halt_max_steps, model.pos_encodings) == (layers, 16, "rope")
    assert (model.hidden_size, model.num_heads, model.expansion) == (512, 8, 4.0)
    assert model.prefix_len == (1 if name.startswith("hrm") else 16)
    assert (training.global_batch_size, training.optimizer) == (768, "adam_atan2")
    assert (training.lr, training.puzzle_emb_lr) == (1e-4, 1e-4)
    assert (training.weight_decay, training.puzzle_emb_weight_decay) == (1.0, 1.0)
    assert (training.warmup_steps, training.lr_min_ratio, training.ema_decay) == (2000, 1.0, ema)
    assert training.total_steps == epochs * 1000 // training.global_batch_size
    assert isinstance(recipe.data, MazeData)
    assert (recipe.data.source, recipe.data.validate_on) == ("maze-30x30-hard-1k", "generated")
    assert recipe.data.num_train == recipe.data.num_test == 0, "all of them"
    assert recipe.data.augment == (name == "maze-hard")


def test_settings_of_hrm_on_sudoku():
    """Its model has the defaults, which the fidelity report compares; the rest is as in TRM."""
    hrm, trm = recipe_named("hrm-sudoku-extreme"), recipe_named("sudoku-extreme-attention")
    assert hrm.model == HRMConfig(task="sudoku9", forward_dtype="auto")
    assert hrm.data == trm.data
    steps = 20_000 * 1000 // 768
    assert hrm.training == replace(trm.training, total_steps=steps, ema_decay=0.0)


def test_eqr_is_trm_with_random_starts_damping_and_noise():
    trm, eqr = recipe_named("sudoku-extreme-mlp"), recipe_named("sudoku-extreme-eqr")
    assert (eqr.model.initial_state, eqr.model.damping, eqr.model.noise) == ("random", 0.95, 0.01)
    assert (eqr.model.prefix_len, eqr.model.seq_len) == (0, 81)
    prefix = {"puzzle_emb_ndim": 512, "puzzle_emb_len": 16}
    same = replace(eqr.model, **prefix, initial_state="fixed", damping=1.0, noise=0.0)
    assert (same, eqr.data, eqr.training) == (trm.model, trm.data, trm.training)


VARIED = (
    "total_steps ema_decay eval_every weight_decay puzzle_emb_lr puzzle_emb_weight_decay".split()
)
"""Training settings in which the published recipes differ."""


@pytest.mark.parametrize(
    "name", [f"{model}{data}" for model in ("", "hrm-") for data in ("maze-hard", "arc-1", "arc-2")]
)
def test_all_other_settings_are_the_defaults(name: str):
    """The fidelity report compares the defaults, such as `refill`, with the originals'."""
    training, usual = recipe_named(name).training, TrainingConfig()
    assert replace(training, **{key: getattr(usual, key) for key in VARIED}) == usual


@pytest.mark.parametrize(
    ("name", "cycles", "layers", "steps", "ema"),
    [
        ("arc-1", (3, 4), 2, 518_000, 0.999),
        ("arc-2", (3, 4), 2, 724_000, 0.999),
        ("hrm-arc-1", (2, 2), 4, 519_000, 0.0),
        ("hrm-arc-2", (2, 2), 4, 519_000, 0.0),
    ],
)
def test_settings_of_arc(name, cycles, layers, steps, ema):
    recipe = recipe_named(name)
    model, training, data = recipe.model, recipe.training, recipe.data
    assert (model.H_cycles, model.L_cycles) == cycles
    assert (model.L_layers, model.halt_max_steps, model.pos_encodings) == (layers, 16, "rope")
    assert (model.hidden_size, model.num_heads, model.expansion) == (512, 8, 4.0)
    assert model.prefix_len == (1 if name.startswith("hrm") else 16)
    assert (model.vocab_size, model.seq_len) == (12, 900)
    assert (training.global_batch_size, training.optimizer) == (768, "adam_atan2")
    assert (training.lr, training.puzzle_emb_lr) == (1e-4, 1e-2)
    assert (training.weight_decay, training.puzzle_emb_weight_decay) == (0.1, 0.1)
    assert (training.warmup_steps, training.lr_min_ratio, training.ema_decay) == (2000, 1.0, ema)
    assert training.total_steps == steps
    assert isinstance(data, ArcData)
    assert (data.num_aug, data.canvas) == (1000, 30)
    assert data.source == name.replace("hrm-", "").replace("arc", "arc-agi")


def test_the_adamw_preset():
    recipe = recipe_named("sudoku-adamw")
    model, training = recipe.model, recipe.training
    assert (model.hidden_size, model.num_heads, model.L_layers, model.expansion) == (512, 8, 2, 4.0)
    assert (model.H_cycles, model.L_cycles, model.halt_max_steps) == (3, 6, 16)
    assert (model.prefix_len, model.q_outputs, model.pos_encodings) == (1, 2, "rope")
    assert (training.optimizer, training.lr, training.weight_decay) == ("adamw", 1e-4, 0.1)
    assert (training.beta1, training.beta2, training.lr_min_ratio) == (0.9, 0.95, 1.0)
    assert (training.global_batch_size, training.warmup_steps) == (768, 2000)
    assert (training.ema_decay, training.puzzle_emb_weight_decay) == (0.0, 0.1)
    assert training.total_steps == 100_000


def test_unknown_recipe():
    with pytest.raises(ValueError, match=re.escape("'sudoku-extreme-mpl': did you mean sudoku-")):
        recipe_named("sudoku-extreme-mpl")


def test_data_of_another_shape_are_refused_with_the_flag_to_use(tmp_path: Path):
    recipe = recipe_named("sudoku4-tiny")
    data = SudokuData(size=6, num_train=3, num_validation=1, num_test=1)
    folder = data.prepare(tmp_path, lambda line: None)
    with pytest.raises(ValueError, match=r"vocab_size 8, the model 6: use --vocab-size 8"):
        check_fits(recipe, PuzzleSet.load(folder, "train"), folder)
