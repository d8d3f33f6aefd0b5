"""Checkpoints in the originals' format: their numbers come out, and the same file goes back."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

import ostinato
from ostinato.models import HRM, TRM, HRMConfig, RecursiveModel, TRMConfig
from ostinato.verify.golden_recursive import floor_group
from ostinato.weights.official import (
    ARCH_NAMES,
    from_official_config,
    from_official_name,
    from_official_settings,
    from_official_weights,
    to_official_name,
    write_official,
)
from tests.verify.recordings import measured

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDED = sorted(p.stem for p in GOLDEN.glob("*.safetensors") if p.stem[:3] in ("hrm", "trm"))
SIZES = ("vocab_size", "seq_len", "num_puzzle_identifiers")
TOLERANCE = {
    "trm_bfloat16": 3e-2,  # or what rounding does on this machine, as `verify --golden` judges
    "trm_mlp": 1e-4,  # the recorded logits are themselves 2e-5 from those in float64
}
ARCH = {
    "name": ARCH_NAMES["trm"],
    "H_cycles": 2,
    "L_cycles": 3,
    "L_layers": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "expansion": 2,
    "pos_encodings": "rope",
    "halt_max_steps": 4,
}


def recording(name: str) -> tuple[dict[str, torch.Tensor], str, dict]:
    """The tensors of a golden file, which model it was recorded from, and its settings."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.offset_keys()}
    return tensors, metadata["model"], json.loads(metadata["config"])


def save_as_the_originals_do(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """A checkpoint with the golden `init` weights, as `pretrain.py` would have written it."""
    tensors, model, settings = recording(name)
    weights = {
        f"_orig_mod.model.{key.removeprefix('init/')}": tensor
        for key, tensor in tensors.items()
        if key.startswith("init/")
    }
    not_in_yaml = (*SIZES, "batch_size", "loss_type")
    arch = {key: value for key, value in settings.items() if key not in not_in_yaml}
    loss = {"name": "losses@ACTLossHead", "loss_type": settings["loss_type"]}
    content = {"arch": {"name": ARCH_NAMES[model], "loss": loss, **arch}, "lr": 1e-4, "epochs": 10}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "step_100")
    (folder / "all_config.yaml").write_text(yaml.dump(content))
    return weights


def first_step(model: RecursiveModel, tensors: dict[str, torch.Tensor]):
    """Output and new state for the first recorded batch."""
    inputs = tensors["step1/batch/inputs"]
    ids = tensors["step1/batch/puzzle_identifiers"]
    with torch.no_grad():
        return model(model.initial_state(len(inputs)), inputs, ids)


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.double() - other.double()).abs().max().item()


@pytest.mark.parametrize("name", RECORDED)
def test_loaded_checkpoint_computes_what_the_original_did(name: str, tmp_path: Path):
    save_as_the_originals_do(tmp_path, name)
    tensors, kind, settings = recording(name)
    not_in_file = {"seq_len": 16} if settings["pos_encodings"] == "rope" else {}
    model = ostinato.load(tmp_path / "step_100", **not_in_file)
    assert type(model) is {"trm": TRM, "hrm": HRM}[kind]
    sizes = [settings[key] for key in SIZES]
    if not settings["puzzle_emb_ndim"]:
        sizes[-1] = 1  # nothing in the file tells, and nothing depends on it
    assert [getattr(model.config, key) for key in SIZES] == sizes

    state, output = first_step(model, tensors)
    for key, ours in (
        ("out/logits", output.logits),
        ("out/q_halt_logits", output.q_halt),
        ("out/q_continue_logits", output.q_continue),
        ("carry/z_H", state.z_H),
        ("carry/z_L", state.z_L),
    ):
        assert ours is not None
        allowed = TOLERANCE.get(name, 1e-5)
        if name == "trm_bfloat16":
            allowed = max(allowed, measured(name).floors[floor_group(f"step1/{key}")])
        assert largest_difference(ours, tensors[f"step1/{key}"]) <= allowed, key


@pytest.mark.parametrize("name", RECORDED)
def test_round_trip_is_exact(name: str, tmp_path: Path):
    theirs = save_as_the_originals_do(tmp_path / "theirs", name)
    model = ostinato.load(tmp_path / "theirs", seq_len=16, task="sudoku4")
    path = write_official(model, tmp_path / "back", step=7)
    assert path.name == "step_7"

    back = torch.load(path, weights_only=True)
    assert type(back) is dict and back.keys() == theirs.keys()
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)
    assert all(back[key].dtype == theirs[key].dtype for key in theirs)

    again = ostinato.load(tmp_path / "back")  # seq_len and task included
    assert again.config == model.config
    tensors, _, _ = recording(name)
    (one_state, one), (other_state, other) = first_step(model, tensors), first_step(again, tensors)
    pairs = [*zip(one_state, other_state, strict=True), *zip(one, other, strict=True)]
    assert all(torch.equal(a, b) for a, b in pairs)

    original = yaml.safe_load((tmp_path / "theirs/all_config.yaml").read_text())["arch"]
    written = yaml.safe_load((tmp_path / "back/all_config.yaml").read_text())["arch"]
    assert original.keys() <= written.keys() | {"halt_exploration_prob"}
    for key in original.keys() - {"halt_exploration_prob"}:
        assert written[key] == original[key], key


@pytest.mark.parametrize("name", ["hrm_act_v1_learned_positions", "trm_learned_positions"])
@pytest.mark.parametrize("prefix", ["", "inner.", "model.inner.", "module.model.inner."])
def test_any_part_of_the_prefix_may_be_missing(name: str, prefix: str, tmp_path: Path):
    theirs = save_as_the_originals_do(tmp_path, name)
    whole = ostinato.load(tmp_path)
    renamed = {prefix + key.removeprefix("_orig_mod.model.inner."): t for key, t in theirs.items()}
    torch.save(renamed, tmp_path / "step_100")
    part = ostinato.load(tmp_path)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, part.state_dict()[key])


def test_two_names_for_one_tensor_are_refused():
    tensor = torch.zeros(2)
    with pytest.raises(ValueError, match=r"module\.H_init and another tensor are both H_init"):
        from_official_weights({"H_init": tensor, "module.H_init": tensor})


def test_names_are_translated_back():
    small = {"hidden_size": 32, "puzzle_emb_ndim": 32, "pos_encodings": "learned"}
    for model in (TRM(TRMConfig(**small)), HRM(HRMConfig(**small))):
        for name in model.state_dict():
            assert from_official_name(to_official_name(name)) == name


def rotary_tables(length: int, head_dim: int, theta: float) -> dict[str, torch.Tensor]:
    """As the originals compute them, in bf16 as some files keep them."""
    powers = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32), 1.0 / (theta**powers))
    angles = torch.cat((angles, angles), dim=-1)
    return {
        "_orig_mod.model.inner.rotary_emb.cos_cached": angles.cos().bfloat16(),
        "_orig_mod.model.inner.rotary_emb.sin_cached": angles.sin().bfloat16(),
    }


def test_rotary_tables_tell_the_length_and_are_checked(tmp_path: Path):
    theirs = save_as_the_originals_do(tmp_path, "hrm_act_v1")
    with pytest.raises(ValueError, match="give it as seq_len"):
        ostinato.load(tmp_path)
    plain = ostinato.load(tmp_path, seq_len=16)

    torch.save(theirs | rotary_tables(17, 16, 10_000.0), tmp_path / "step_100")
    model = ostinato.load(tmp_path)
    assert model.config == plain.config
    assert model.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(ValueError, match=r"rotary_emb\.cos_cached has other positions"):
        ostinato.load(tmp_path, seq_len=20)

    torch.save(theirs | rotary_tables(17, 16, 1_000.0), tmp_path / "step_100")
    with pytest.raises(ValueError, match="rope_theta"):
        ostinato.load(tmp_path)


def test_rotary_tables_are_foreign_to_learned_positions(tmp_path: Path):
    theirs = save_as_the_originals_do(tmp_path, "hrm_act_v1_learned_positions")
    torch.save(theirs | rotary_tables(18, 16, 10_000.0), tmp_path / "step_100")
    with pytest.raises(ValueError, match=r"does not know: rotary_emb\.cos_cached"):
        ostinato.load(tmp_path)


def test_rows_of_the_last_batch_are_left_out(tmp_path: Path):
    theirs = save_as_the_originals_do(tmp_path, "trm_mlp")
    expected = ostinato.load(tmp_path).state_dict()
    puzzle_emb = "_orig_mod.model.inner.puzzle_emb"
    copies = {f"{puzzle_emb}.local_weights": torch.ones(6, 32)}
    copies[f"{puzzle_emb}.local_ids"] = torch.arange(6, dtype=torch.int32)
    torch.save(theirs | copies, tmp_path / "step_100")
    loaded = ostinato.load(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["trm_mlp", "hrm_act_v1"])
def test_the_tensors_tell_the_model_where_the_settings_do_not(name: str, tmp_path: Path):
    save_as_the_originals_do(tmp_path, name)
    named = ostinato.load(tmp_path, seq_len=16)
    arch = yaml.safe_load((tmp_path / "all_config.yaml").read_text())["arch"]
    del arch["name"]
    arch["puzzle_emb_ndim"] = "${.hidden_size}"  # as in their config/arch
    (tmp_path / "all_config.yaml").unlink()
    (tmp_path / "config.json").write_text(json.dumps(arch))
    unnamed = ostinato.load(tmp_path, seq_len=16)
    assert type(unnamed) is type(named) and unnamed.config == named.config


def test_settings_have_the_originals_defaults():
    config = from_official_config("trm", ARCH)
    assert (config.puzzle_emb_ndim, config.puzzle_emb_len) == (0, 16)
    assert (config.forward_dtype, config.no_ACT_continue) == ("bfloat16", True)
    config = from_official_config("hrm", ARCH | {"H_layers": 3, "puzzle_emb_ndim": 40})
    assert isinstance(config, HRMConfig) and config.H_layers == 3
    assert (config.prefix_len, config.no_ACT_continue) == (2, False)


@pytest.mark.parametrize(
    ("model", "change", "problem"),
    [
        ("trm", {"L_cycle": 3}, "unknown trm setting L_cycle"),
        ("trm", {"adaptive_depth": True}, "unknown trm setting adaptive_depth"),
        ("hrm", {"H_layers": 1, "mlp_t": True}, "unknown hrm setting mlp_t"),
        ("hrm", {}, "the hrm setting H_layers is missing"),
    ],
)
def test_unknown_and_missing_settings_are_refused(model: str, change: dict, problem: str):
    with pytest.raises(ValueError, match=problem):
        from_official_settings(model, ARCH | change)


def test_their_other_hrm_has_a_switch_that_is_off():
    settings = ARCH | {"H_layers": 1, "mlp_t": False}
    assert "mlp_t" not in from_official_settings("hrm", settings)


@pytest.mark.parametrize(
    "name",
    [
        "recursive_reasoning.trm_singlez@TinyRecursiveReasoningModel_ACTV1",
        "recursive_reasoning.transformers_baseline@Model_ACTV2",
    ],
)
def test_other_recursions_are_refused(name: str, tmp_path: Path):
    """Some have the same tensors, so that nothing else would tell."""
    save_as_the_originals_do(tmp_path, "trm_mlp")
    path = tmp_path / "all_config.yaml"
    path.write_text(path.read_text().replace(ARCH_NAMES["trm"], name))
    with pytest.raises(ValueError, match=f"{name} is no model that this version has"):
        ostinato.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (TRM(TRMConfig(hidden_size=32, q_outputs=1)), "q head has two outputs"),
        (TRM(TRMConfig(hidden_size=32, puzzle_emb_ndim=0)), "no empty prefix"),
        (HRM(HRMConfig(hidden_size=32, puzzle_emb_ndim=32, puzzle_emb_len=2)), "prefix tokens"),
    ],
)
def test_what_the_originals_cannot_hold_is_not_exported(
    model: RecursiveModel, problem: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=problem):
        write_official(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
