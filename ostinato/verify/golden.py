"""`ostinato verify --golden DIR`: replay recorded runs of the originals, compare every number."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ostinato.models import RECURSIVE_MODELS
from ostinato.verify.comparison import Comparison, Recording
from ostinato.verify.golden_arc import is_arc, verify_arc
from ostinato.verify.golden_eqr import verify_eqr
from ostinato.verify.golden_mhc import verify_mhc
from ostinato.verify.golden_ouro import verify_ouro
from ostinato.verify.golden_recursive import verify_recursive


@dataclass(frozen=True)
class GoldenResult:
    """Hold the result for one file: comparisons by kind, or an error."""

    file: str
    comparisons: list[Comparison]
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and all(comparison.passed for comparison in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, verdicts included."""
        rows = [asdict(row) | {"passed": row.passed} for row in self.comparisons]
        return asdict(self) | {"passed": self.passed, "comparisons": rows}


def verify_folder(folder: Path) -> Iterator[GoldenResult]:
    """Replay every golden file of a folder, and what was recorded of ARC, in it or just below.

    Raises ValueError if there is neither.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    arc = [path for path in (folder, *sorted(folder.glob("*/"))) if is_arc(path)]
    if not files and not arc:
        raise ValueError(f"{folder} holds no *.safetensors: give a folder of golden files")
    for path in files + arc:
        try:
            found = verify_arc(path) if path in arc else verify_golden(path)
            yield GoldenResult(path.name, found)
        except ValueError as error:
            yield GoldenResult(path.name, [], str(error))


def verify_golden(path: Path) -> list[Comparison]:
    """Replay one file, whatever it was recorded from. Raises ValueError if that is unknown."""
    golden, metadata = read_golden(path)
    if metadata.get("model") in RECURSIVE_MODELS:
        return verify_recursive(golden, metadata)
    if metadata.get("model") == "eqr":
        return verify_eqr(golden, metadata)
    if metadata.get("model") == "ouro":
        return verify_ouro(golden, metadata)
    if "layer_index" in metadata:
        return verify_mhc(golden, metadata)
    model = metadata.get("model", "a model that it does not name")
    known = ", ".join([*RECURSIVE_MODELS, "eqr", "ouro"])
    raise ValueError(f"recorded from {model}; this version knows {known}")


def read_golden(path: Path) -> tuple[Recording, dict[str, str]]:
    """Read the tensors of a safetensors file and its metadata."""
    try:
        with safe_open(path, "pt") as file:
            golden = Recording({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return golden, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"truncated, or no safetensors file ({error})") from None
