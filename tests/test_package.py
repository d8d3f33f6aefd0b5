"""The package as a whole: what its modules import, and the tree in the README."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import jaxtyping
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ostinato.layers.norm import rms_norm

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "ostinato").rglob("*.py"))
README = (ROOT / "README.md").read_text("utf-8")

NEED_EXTRAS = {
    *("ostinato.web.openai", "ostinato.web.thinking", "ostinato.web.writing"),
    *(f"ostinato.kernels.{path.stem}" for path in (ROOT / "ostinato/kernels").glob("[a-z]*.py")),
    "ostinato.inference.packing",
}
"""Modules that only `ostinato.web.server.create_app` and `ostinato.inference.decoder` import, which
say what to install."""

# Forks, so that the libraries are loaded once and yet no folder finds another's modules loaded
IMPORT_EACH_ALONE = """
import importlib, json, os, sys, traceback
import huggingface_hub, jaxtyping, msgspec, numpy, rich, safetensors, tokenizers, torch, tyro, yaml
absent, folders = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(absent))
failures = 0
for modules in folders:
    child = os.fork()
    if child:
        failures += os.waitpid(child, 0)[1] != 0
        continue
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException:
            print(name, traceback.format_exc(), flush=True)
            os._exit(1)
    os._exit(0)
sys.exit(failures)
"""


def test_every_folder_imports_alone_with_the_core_dependencies():
    """Since no import makes a circle, modules of a folder cannot depend on the order."""
    core = core_distributions()
    absent = [
        module
        for module, owners in metadata.packages_distributions().items()
        if module != "ostinato" and not core & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"pytest", "beartype", "matplotlib"} <= set(absent)
    folders: dict[Path, list[str]] = {}
    for path in SOURCES:
        if (name := module_name(path)) not in NEED_EXTRAS:
            folders.setdefault(path.parent, []).append(name)
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH_ALONE],
        input=json.dumps([absent, list(folders.values())]),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_help_does_not_import_torch():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ostinato", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "ostinato" in imported
    assert "torch" not in imported


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ostinato/layers").glob("*.py")), ids=lambda p: p.stem
)
def test_layers_import_only_torch(path: Path):
    allowed = {"torch", "jaxtyping", "ostinato", *sys.stdlib_module_names}
    assert imported_packages(path) <= allowed


def test_the_readme_lists_the_core_and_every_folder():
    """The core stays small enough for an evening; the rest is drawn by folders."""
    core, folders = re.findall(r"^```text\n((?:[\w/.]+ .*\n)+)```", README, re.MULTILINE)
    files = [ROOT / "ostinato" / line.split()[0] for line in core.splitlines()]
    assert 15 <= len(set(files)) == len(files)
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) <= 3000
    drawn = {name for line in folders.splitlines() for name in line.partition("#")[0].split()}
    found = {path.relative_to(ROOT / "ostinato").parts[0] for path in SOURCES}
    real = {name if name.endswith(".py") else f"{name}/" for name in found}
    assert drawn == real - {"__init__.py", "__main__.py"}
    assert len(README.splitlines()) < 150


def test_shapes_are_checked_under_pytest():
    with pytest.raises(jaxtyping.TypeCheckError):
        rms_norm(torch.ones(2, 3, dtype=torch.int32), 1e-5)


@pytest.mark.compile
def test_shapes_are_not_checked_in_tests_that_compile():
    assert rms_norm(torch.ones(2, 3, dtype=torch.int32), 1e-5).dtype == torch.int32


def core_distributions() -> set[str]:
    """All that `pip install ostinato` brings when no extra is asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    found: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found.add(name)
            waiting += [Requirement(text) for text in metadata.requires(name) or []]
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: imports are absolute"
            names.add(node.module)
    return {name.partition(".")[0] for name in names}
