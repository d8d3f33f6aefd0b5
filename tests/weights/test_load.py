"""Weights are found, read strictly and put into a model, wherever they come from."""

import fnmatch
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import ostinato
from ostinato.data.tables import hub_files
from ostinato.models import HRM, NanoChat, NanoChatConfig, RecursiveModel, TRMConfig
from ostinato.models.dtypes import computes_in_bfloat16
from ostinato.weights.files import read_tensors
from ostinato.weights.official import to_official_weights, write_official
from ostinato.weights.save import save_weights, write_hub
from tests.tiny import assert_same_model, tiny_model

ROOT = Path(__file__).parents[2]
MLP = {"mlp_t": True, "pos_encodings": "none", "puzzle_emb_len": 2}
MODELS = {
    "trm": tiny_model("trm", **MLP, num_puzzle_identifiers=7),
    "hrm": tiny_model("hrm", puzzle_emb_len=0, num_puzzle_identifiers=7),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_form_gives_the_model_back(name: str, tmp_path: Path):
    model = MODELS[name]
    save_weights(tmp_path / "model.safetensors", model, step=3)
    write_official(model, tmp_path / "official")
    write_hub(model, tmp_path / "hub", step=3)
    for source in (
        tmp_path,
        tmp_path / "model.safetensors",
        str(tmp_path / "official"),
        tmp_path / "official/checkpoint",
        tmp_path / "hub",
    ):
        loaded = ostinato.load(source)
        assert_same_model(loaded, model)
        assert not loaded.training

    # Safetensors without our metadata, under either side's names
    bare = load_file(tmp_path / "hub/model.safetensors")
    save_file(bare, tmp_path / "hub/model.safetensors")
    assert_same_model(ostinato.load(tmp_path / "hub"), model)
    save_file(to_official_weights(model), tmp_path / "official/converted.safetensors")
    assert_same_model(ostinato.load(tmp_path / "official/converted.safetensors"), model)


def test_settings_elsewhere_and_replaced(tmp_path: Path):
    write_official(MODELS["hrm"], tmp_path)
    (tmp_path / "all_config.yaml").rename(tmp_path / "elsewhere.yaml")
    with pytest.raises(ValueError, match=r"no all_config\.yaml, config\.yaml, config\.json beside"):
        ostinato.load(tmp_path)
    model = ostinato.load(
        tmp_path, config=tmp_path / "elsewhere.yaml", forward_dtype="bfloat16", halt_max_steps=2
    )
    assert (model.config.forward_dtype, model.config.halt_max_steps) == ("bfloat16", 2)
    assert model.H_init.dtype == torch.bfloat16
    changes: list[tuple[dict[str, Any], str]] = [
        ({"halt_max_step": 2}, "did you mean halt_max_steps"),
        ({"halt_max_steps": "2"}, "halt_max_steps is '2', not of type int"),
        ({"pos_encodings": "rotary"}, "not one of .*rope"),
        ({"hidden_size": 17}, "not a multiple of num_heads"),
    ]
    for change, problem in changes:
        with pytest.raises(ValueError, match=problem):
            ostinato.load(tmp_path, config=tmp_path / "elsewhere.yaml", **change)
    save_weights(tmp_path / "model.safetensors", MODELS["hrm"])
    with pytest.raises(ValueError, match="holds its own settings"):
        ostinato.load(tmp_path, config=tmp_path / "elsewhere.yaml")


@pytest.mark.parametrize(
    ("capabilities", "vectors", "onednn", "expected"),
    [
        ({"avx2": True, "avx512_f": True}, "AVX512", True, "float32"),
        ({"avx2": True, "avx512_bf16": True}, "AVX512", True, "bfloat16"),
        ({"avx2": True, "avx512_bf16": True}, "AVX2", True, "float32"),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": True}, "AVX512", False, "float32"),
        ({"neon": True, "bf16": False}, "DEFAULT", True, "float32"),
        ({"neon": True, "bf16": True}, "DEFAULT", True, "bfloat16"),
        ({"neon": True, "bf16": True}, "DEFAULT", False, "float32"),
    ],
)
def test_the_automatic_dtype_is_one_that_the_cpu_has_instructions_for(
    capabilities: dict[str, bool],
    vectors: str,
    onednn: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    write_official(MODELS["hrm"], tmp_path / "official")
    for trained_in, thinks_in in (("bfloat16", expected), ("float32", "float32")):
        model = ostinato.load(tmp_path / "official", forward_dtype=trained_in)
        save_weights(tmp_path / "model.safetensors", model)
        assert ostinato.load(tmp_path / "model.safetensors").config.forward_dtype == trained_in
        model = ostinato.load(tmp_path / "model.safetensors", forward_dtype="auto")
        assert model.config.forward_dtype == thinks_in
        assert model.H_init.dtype == getattr(torch, thinks_in)
    assert computes_in_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA=AVX2", "ATEN_CPU_CAPABILITY=avx2"])
def test_a_processor_that_is_made_to_look_older_is_taken_for_it(variable: str):
    code = (
        "import torch; from ostinato.models.dtypes import computes_in_bfloat16; "
        "print(computes_in_bfloat16(torch.device('cpu')))"
    )
    name, value = variable.split("=")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), name: value}
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert printed == "False\n"


def test_a_model_needs_a_dtype():
    for kind in (TRMConfig, NanoChatConfig):
        with pytest.raises(ValueError, match="forward_dtype is auto, which is no dtype"):
            _ = kind(forward_dtype="auto").dtype


@pytest.mark.parametrize("text", ["arch: [", "- a list", "arch: none", "\x00"])
def test_unreadable_settings_are_named(text: str, tmp_path: Path):
    write_official(MODELS["hrm"], tmp_path)
    (tmp_path / "all_config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"all_config\.yaml"):
        ostinato.load(tmp_path)


def test_a_language_model_keeps_its_tokenizer(tmp_path: Path):
    model = tiny_model("nanochat")
    (tmp_path / "tokenizer.json").write_text("{}")
    save_weights(tmp_path / "model.safetensors", model, step=3)
    loaded = ostinato.load(tmp_path, kind=NanoChat)
    assert_same_model(loaded, model)
    assert loaded.tokenizer_json == "{}"
    write_hub(loaded, tmp_path / "hub")
    again = ostinato.load(tmp_path / "hub")
    assert_same_model(again, model)
    assert again.tokenizer_json == loaded.packed().tokenizer_json == "{}"
    with pytest.raises(ValueError, match="a packed model has no fp32 weights"):
        save_weights(tmp_path / "packed.safetensors", loaded.packed())


def test_a_model_of_another_kind_is_refused(tmp_path: Path):
    save_weights(tmp_path / "chat.safetensors", tiny_model("nanochat"))
    save_weights(tmp_path / "trm.safetensors", MODELS["trm"])
    with pytest.raises(ValueError, match="holds a nanochat, which continues texts: see ostinato g"):
        ostinato.load(tmp_path / "chat.safetensors", kind=RecursiveModel)
    with pytest.raises(ValueError, match="holds a trm, which solves puzzles: see ostinato solve"):
        ostinato.load(tmp_path / "trm.safetensors", kind=NanoChat)
    with pytest.raises(ValueError, match="did you mean num_heads"):
        ostinato.load(tmp_path / "chat.safetensors", num_head=2)
    with pytest.raises(ValueError, match="to take the mean of"):
        ostinato.load(tmp_path / "chat.safetensors", puzzle_embeddings="mean")
    with pytest.raises(ValueError, match=r"embed_tokens\.weight has shape"):
        ostinato.load(tmp_path / "chat.safetensors", vocab_size=8)


def test_which_file_of_a_folder(tmp_path: Path):
    with pytest.raises(ValueError, match="evaluated at least once"):
        ostinato.load(tmp_path)
    for step in (20, 100, 3):
        shifted = MODELS["hrm"].state_dict()
        shifted["q_head.bias"] = torch.full((2,), float(step))
        model = HRM(MODELS["hrm"].config)
        model.load_state_dict(shifted)
        write_official(model, tmp_path, step)
    (tmp_path / "step_100_all_preds.0").touch()
    assert ostinato.load(tmp_path).q_head.bias.tolist() == [100.0, 100.0]  # pyright: ignore
    for step in (20, 100, 3):
        (tmp_path / f"step_{step}").rename(tmp_path / f"{step}.pt")
    with pytest.raises(ValueError, match=r"name one of 100\.pt, 20\.pt, 3\.pt"):
        ostinato.load(tmp_path)
    (tmp_path / "100.pt").unlink()
    (tmp_path / "3.pt").unlink()
    assert ostinato.load(tmp_path).q_head.bias.tolist() == [20.0, 20.0]  # pyright: ignore
    with pytest.raises(ValueError, match="does not exist: give a run folder"):
        ostinato.load(tmp_path / "nothing")


def test_a_faulty_file_is_named(tmp_path: Path):
    path = write_official(MODELS["trm"], tmp_path, step=1)
    weights = to_official_weights(MODELS["trm"])
    del weights["_orig_mod.model.inner.lm_head.weight"]
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"step_1 lacks the tensor lm_head\.weight$"):
        ostinato.load(tmp_path)


def test_the_other_model_is_refused(tmp_path: Path):
    write_official(MODELS["hrm"], tmp_path)
    path = tmp_path / "all_config.yaml"
    text = path.read_text().replace(
        "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1",
        "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
    )
    path.write_text(text.replace("ostinato:", "unused:"))
    with pytest.raises(ValueError, match=r"does not know: H_level\.layers\.0"):
        ostinato.load(tmp_path, seq_len=15, puzzle_emb_len=0)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("save", ["torch", "legacy", "pickle"])
def test_pickled_code_is_refused_and_does_not_run(save: str, tmp_path: Path):
    write_official(MODELS["hrm"], tmp_path)
    content = {**to_official_weights(MODELS["hrm"]), "bomb": Bomb(tmp_path / "exploded")}
    if save == "pickle":
        (tmp_path / "checkpoint").write_bytes(pickle.dumps({"bomb": content["bomb"]}, 2))
    else:
        zipped = save == "torch"
        torch.save(content, tmp_path / "checkpoint", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"checkpoint is refused: it would run \S*system"):
        ostinato.load(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_pickles_are_one_line_errors(zipped: bool, tmp_path: Path):
    path = tmp_path / "step_1"
    torch.save({"w": torch.arange(40.0)}, path, _use_new_zipfile_serialization=zipped)
    good, rng = path.read_bytes(), random.Random(0)
    read_tensors(path)
    refused = 0
    for _ in range(100):
        bad = bytearray(good[: rng.randrange(len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.randrange(1, 8)):
            if bad:
                bad[rng.randrange(len(bad))] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            read_tensors(path)  # a changed number is no damage that could be seen
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 25


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04", b"\x80\x02}q\x00.", b"text " * 99])
@pytest.mark.parametrize("name", ["step_1", "model.safetensors", "weights.bin"])
def test_what_holds_no_weights_is_refused(content: bytes, name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name):
        ostinato.load(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (torch.zeros(3), "no state dict but a Tensor"),
        ({}, "no state dict but a dict"),
        ({"epoch": 3}, "'epoch' is no tensor but a int"),
        ({3: torch.zeros(3)}, "3 is no tensor"),
        ({"w": torch.zeros(3, 3).to_sparse()}, "w is sparse or quantised"),
        (
            {"model": {"w": torch.zeros(3)}, "ema_helper": {}},
            r"several sets.*\(model, ema_helper\)",
        ),
        ({"model": {}, "state_dict": {}}, r"several sets.*\(model, state_dict\)"),
    ],
)
def test_pickles_that_are_no_state_dict(content: object, problem: str, tmp_path: Path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=problem):
        read_tensors(tmp_path / "file.pt")


def test_weights_within_a_training_checkpoint(tmp_path: Path):
    weights = OrderedDict(w=torch.nn.Parameter(torch.arange(3.0)))
    for key in ("model", "model_state_dict", "state_dict"):
        torch.save({key: weights, "step": 3, "optimizers": [{"state": {}}]}, tmp_path / "file.pt")
        tensors, metadata = read_tensors(tmp_path / "file.pt")
        assert tensors["w"].tolist() == [0.0, 1.0, 2.0] and metadata == {}


class TestPuzzleEmbeddings:
    def test_another_size_is_an_error_with_the_remedy(self, tmp_path: Path):
        write_official(MODELS["hrm"], tmp_path)
        with pytest.raises(ValueError, match=r"has 7 rows, the model needs 9.* mean, or set .* 7$"):
            ostinato.load(tmp_path, num_puzzle_identifiers=9)

    @pytest.mark.parametrize("rows", [3, 7, 12])
    @pytest.mark.parametrize("form", ["official", "hub"])
    def test_mean(self, rows: int, form: str, tmp_path: Path):
        model = MODELS["trm"]
        (write_official if form == "official" else write_hub)(model, tmp_path)
        loaded = ostinato.load(tmp_path, num_puzzle_identifiers=rows, puzzle_embeddings="mean")
        assert loaded.puzzle_emb is not None and model.puzzle_emb is not None
        mean = model.puzzle_emb.weights.double().mean(0)
        expected = mean.repeat(rows, 1)
        assert loaded.puzzle_emb.weights.shape == expected.shape
        assert (loaded.puzzle_emb.weights - expected).abs().max() < 1e-6
        assert loaded.puzzle_emb.weights.is_contiguous()
        others = {k: v for k, v in model.state_dict().items() if k != "puzzle_emb.weights"}
        assert all(torch.equal(loaded.state_dict()[name], others[name]) for name in others)

    def test_without_a_table(self, tmp_path: Path):
        model = tiny_model("trm", puzzle_emb_ndim=0, puzzle_emb_len=0)
        save_weights(tmp_path / "model.safetensors", model)
        with pytest.raises(ValueError, match="to take the mean of"):
            ostinato.load(tmp_path, puzzle_embeddings="mean")

    @pytest.mark.compile  # without the shape checks, which would find it first
    def test_a_misspelt_choice(self, tmp_path: Path):
        write_hub(MODELS["trm"], tmp_path)
        with pytest.raises(ValueError, match="puzzle_embeddings is 'men': choose keep or mean"):
            ostinato.load(tmp_path, puzzle_embeddings="men")  # pyright: ignore[reportArgumentType]


class Hub:
    """Stands in for `snapshot_download`: copies what the patterns ask for from a folder."""

    def __init__(self, repository: Path, snapshot: Path):
        self.repository, self.snapshot = repository, snapshot
        self.calls: list[tuple[str, str | None]] = []

    def __call__(
        self, repo_id: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]
    ) -> str:
        assert repo_type == "model"
        self.calls.append((repo_id, revision))
        self.snapshot.mkdir(exist_ok=True)
        for path in self.repository.rglob("*"):
            name = str(path.relative_to(self.repository))
            if path.is_file() and any(fnmatch.fnmatch(name, p) for p in allow_patterns):
                (self.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.snapshot / name)
        return str(self.snapshot)

    def fetched(self) -> set[str]:
        """Return what was downloaded; the next call starts with an empty cache."""
        found = {str(p.relative_to(self.snapshot)) for p in self.snapshot.rglob("*") if p.is_file()}
        shutil.rmtree(self.snapshot)
        return found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A repository with a model in its first folder, and two in another one."""
    repository = tmp_path / "repository"
    write_official(MODELS["hrm"], repository)
    for step in (5, 10):
        write_official(MODELS["trm"], repository / "sudoku", step)
    (repository / "README.md").write_text("weights")
    (repository / "losses.py").write_text("import os")
    fake = Hub(repository, tmp_path / "snapshot")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_hub(hub: Hub):
    assert_same_model(ostinato.load("hf:owner/name"), MODELS["hrm"])
    assert {"checkpoint", "all_config.yaml"} <= hub.fetched()

    assert_same_model(ostinato.load("hf:owner/name/sudoku/step_5", revision="v1"), MODELS["trm"])
    # all_config.yaml may also lie above: there it is not used
    assert hub.fetched() == {"sudoku/step_5", "sudoku/all_config.yaml"}

    assert_same_model(ostinato.load("hf:owner/name/sudoku"), MODELS["trm"])
    assert {"sudoku/step_10", "sudoku/all_config.yaml"} <= hub.fetched()
    assert hub.calls == [("owner/name", None), ("owner/name", "v1"), ("owner/name", None)]

    with pytest.raises(ValueError, match=r"owner/name on the Hub has no step_7"):
        ostinato.load("hf:owner/name/step_7")


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    def offline(*arguments, **settings):
        raise LocalEntryNotFoundError("Cannot find the requested files.\nSecond line")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ValueError) as error:
        ostinato.load("hf:owner/mistyped")
    assert str(error.value) == (
        "cannot get owner/mistyped from the Hub: go online, or check the name (Cannot find the "
        "requested files)"
    )
    for source in ("mistyped", "/no/such", "../no/such", "a/b c", "runs/mistyped"):
        with pytest.raises(ValueError, match="does not exist: give"):
            ostinato.load(source)
    with pytest.raises(ValueError, match=r"on the Hub, write hf:runs/mistyped$"):
        ostinato.load("runs/mistyped")
    with pytest.raises(ValueError, match="hf:mistyped names no model on the Hub"):
        ostinato.load("hf:mistyped")


@pytest.mark.parametrize("fetch", ["model", "data"])
def test_without_a_network_there_is_one_attempt(fetch: str, monkeypatch: pytest.MonkeyPatch):
    """The client as it is, with a Hub that refuses every connection."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")

    def wait(seconds: float):
        pytest.fail("it waits for another attempt")

    monkeypatch.setattr("time.sleep", wait)
    with pytest.raises(ValueError, match=r"cannot get owner/name from the Hub: go online, or .*"):
        if fetch == "model":
            ostinato.load("hf:owner/name")
        else:
            hub_files("owner/name")


def test_really_offline():
    """The client as it is, without a network (see conftest.py)."""
    with pytest.raises(ValueError, match="go online, or check the name"):
        ostinato.load("hf:no-such-owner/no-such-model")


def test_local_paths_have_no_revision(tmp_path: Path):
    with pytest.raises(ValueError, match="is a local path"):
        ostinato.load(tmp_path, revision="main")


def test_hub_folder_is_readable_by_people(tmp_path: Path):
    write_hub(MODELS["trm"], tmp_path, recipe="tiny")
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["model"] == "trm" and content["notes"] == {"recipe": "tiny"}
    assert content["config"]["hidden_size"] == 16
    names = load_file(tmp_path / "model.safetensors").keys()
    assert not any(name.startswith(("_orig_mod", "model", "module", "inner")) for name in names)
