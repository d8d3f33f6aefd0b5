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

# Forks, so that the libraries are loaded once and yet no module finds another of the package loaded
IMPORT_EACH_ALONE = """
import importlib, json, os, sys, traceback
import huggingface_hub, numpy, rich, safetensors, torch, tyro
absent, modules = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(absent))
failures = 0
for name in modules:
    child = os.fork()
    if child:
        failures += os.waitpid(child, 0)[1] != 0
        continue
    try:
        importlib.import_module(name)
        os._exit(0)
    except BaseException:
        print(name, traceback.format_exc(), flush=True)
        os._exit(1)
sys.exit(failures)
"""


def test_every_module_imports_alone_with_the_core_dependencies():
    core = core_distributions()
    absent = [
        module
        for module, owners in metadata.packages_distributions().items()
        if module != "ostinato" and not core & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"pytest", "beartype", "matplotlib"} <= set(absent)
    modules = [module_name(path) for path in SOURCES]
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH_ALONE],
        input=json.dumps([absent, modules]),
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


def test_tree_in_the_readme_is_the_package():
    blocks = re.findall(r"^```text\n(ostinato/\n.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, "the README draws the package once, in a ```text block"
    drawn = drawn_paths(blocks[0])
    real = {path.relative_to(ROOT) for path in SOURCES if path.name != "__init__.py"}
    assert real - drawn == set(), "missing in the tree"
    assert {path for path in drawn if not (ROOT / path).exists()} == set(), "only in the tree"


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


def drawn_paths(tree: str) -> set[Path]:
    """The files in a drawn tree: `folder/` opens a folder, deeper names lie in it, # comments."""
    folders = [(-1, Path())]
    paths = set()
    for line in tree.splitlines():
        names = line.partition("#")[0].split()
        if not names:
            continue
        indent = len(line) - len(line.lstrip())
        while folders[-1][0] >= indent:
            folders.pop()
        if names[0].endswith("/"):
            folders.append((indent, folders[-1][1] / names.pop(0)))
        paths |= {folders[-1][1] / name for name in names}
    return paths
