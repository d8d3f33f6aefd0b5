"""Forward the metrics of a run to TensorBoard, Weights & Biases or trackio."""

import importlib
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from ostinato.decoding import read_text
from ostinato.files import write_text
from ostinato.training.run_folder import RunFolder

TrackerName = Literal["tensorboard", "wandb", "trackio"]


class Sink(Protocol):
    """Another tracker that the metrics are forwarded to."""

    def log(self, step: int, seconds: float, metrics: Mapping[str, int | float]) -> None: ...

    def show(self, step: int, samples: str) -> None: ...

    def close(self, failed: bool) -> None: ...


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, folder: RunFolder, resumed_step: int | None, config: Any):
        tensorboard = _import("torch.utils.tensorboard")
        first_step = 0 if resumed_step is None else resumed_step + 1
        self.writer = tensorboard.SummaryWriter(folder.path / "tensorboard", purge_step=first_step)
        self.writer.add_text("config", f"```json\n{json.dumps(config, indent=2)}\n```", first_step)

    def log(self, step: int, seconds: float, metrics: Mapping[str, int | float]) -> None:
        for key, value in metrics.items():
            self.writer.add_scalar(key, value, step)

    def show(self, step: int, samples: str) -> None:
        self.writer.add_text("samples", samples, step)

    def close(self, failed: bool) -> None:
        self.writer.close()


class WandB:
    """A run of the project "ostinato" at Weights & Biases; after a resume the same one goes on."""

    def __init__(self, folder: RunFolder, resumed_step: int | None, config: Any):
        wandb = _import("wandb")
        file = folder.path / "wandb" / "run-id"
        file.parent.mkdir(parents=True, exist_ok=True)
        if resumed_step is None or not file.exists():
            write_text(file, secrets.token_hex(4))
        self.run = wandb.init(
            project="ostinato",
            name=folder.path.resolve().name,
            dir=folder.path,
            config=config,
            id=read_text(file),
            resume="allow",
        )
        # Its own step counter cannot go back, but a resumed run does.
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, seconds: float, metrics: Mapping[str, int | float]) -> None:
        self.run.log({"step": step, "time": seconds, **metrics})

    def show(self, step: int, samples: str) -> None:
        self.run.log({"step": step, "samples": samples})

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class Trackio:
    """A run of the project "ostinato" in trackio's local database, named as the run folder."""

    def __init__(self, folder: RunFolder, resumed_step: int | None, config: Any):
        trackio = _import("trackio")
        self.run = trackio.init(
            project="ostinato",
            name=folder.path.resolve().name,
            config=config,
            resume="never" if resumed_step is None else "allow",
            embed=False,
        )

    def log(self, step: int, seconds: float, metrics: Mapping[str, int | float]) -> None:
        self.run.log(dict(metrics), step=step)

    def show(self, step: int, samples: str) -> None:
        self.run.log({"samples": samples}, step=step)

    def close(self, failed: bool) -> None:
        self.run.finish()


SINKS: dict[TrackerName, Callable[[RunFolder, int | None, Any], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".")[-1]
        raise ValueError(
            f"tracking with {name} needs a package: pip install 'ostinato[track]'"
        ) from error
