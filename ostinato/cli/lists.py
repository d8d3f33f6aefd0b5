"""`ostinato models`, `ostinato recipes` and `ostinato doctor`."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ostinato.numbers import to_json

if TYPE_CHECKING:
    from ostinato.models import RecursiveConfig


MEBIBYTE = 2**20
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Models:
    """List the presets of nanochat and the models of the recipes, with their sizes.

    Training memory: weights, gradients and the optimiser's state; for nanochat also the activations
    of one text of full length. Inference memory: the weights in use and, for nanochat, the cache.
    """

    json: bool = False
    """Print one JSON object a line, in bytes."""

    def run(self) -> int:
        from ostinato.models import RecursiveConfig
        from ostinato.models.sizes import size_of
        from ostinato.recipes import all_recipes
        from ostinato.recipes.text import PRESETS

        rows: list[dict[str, Any]] = []
        for name, config in PRESETS.items():
            size = size_of(config)
            rows.append({"name": name, "model": "nanochat"} | asdict(size))
            rows[-1]["training"] = size.training
        for name, make in all_recipes().items():
            config = make().model
            if isinstance(config, RecursiveConfig):
                rows.append({"name": name} | recursive_size(config))
        for row in rows:
            print(to_json(row) if self.json else line(row))
        return 0


def recursive_size(config: "RecursiveConfig") -> dict[str, Any]:
    """Return the size of a TRM or HRM; sign-SGD trains its puzzle rows, without optimiser state.

    It is counted on a model on the meta device.
    """
    import torch

    from ostinato.models import RECURSIVE_MODELS

    name, cls = next(
        (name, cls) for name, (cls, kind) in RECURSIVE_MODELS.items() if type(config) is kind
    )
    with torch.device("meta"):
        model = cls(replace(config, forward_dtype="float32"))  # weights are kept in fp32 anyway
    dense = sum(p.numel() for p in model.parameters())
    held = sum(tensor.numel() for tensor in model.state_dict().values())
    return {
        "model": name,
        "parameters": held,
        "training": FLOAT_BYTES * (held + 3 * dense),
        "inference": FLOAT_BYTES * held,
    }


def line(row: dict[str, Any]) -> str:
    """Write a model in one line."""
    return (
        f"{row['name']:<26} {row['model']:<9} {row['parameters'] / 1e6:8.2f} M weights, training "
        f"{row['training'] / MEBIBYTE:8,.0f} MiB, inference {row['inference'] / MEBIBYTE:7,.0f} MiB"
    )


@dataclass(frozen=True)
class Recipes:
    """List the recipes, by their models and by the machines that they need."""

    def run(self) -> int:
        from ostinato.recipes import recipe_list

        print(recipe_list())
        return 0


@dataclass(frozen=True)
class Doctor:
    """Try every device in every dtype, and list the versions in use.

    The exit code is 1 if anything fails.
    """

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        from ostinato.doctor import examine, versions

        if not self.json:
            for name, version in versions().items():
                print(f"{name:<12} {version}")
        findings = []
        for finding in examine():
            findings.append(finding)
            if not self.json:
                print(f"{finding.device:<12} {finding.dtype:<10} {finding.error or 'works'}")
        if self.json:
            content = {"versions": versions(), "findings": [asdict(each) for each in findings]}
            print(to_json(content))
        return 1 if any(finding.error for finding in findings) else 0
