"""`ostinato serve [MODEL …]`."""

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ostinato.web.limits import KEEP_ALIVE, Limits
from ostinato.weights import DEFAULTS, packaged

if TYPE_CHECKING:
    from ostinato.web.server import Served

KEY = "OSTINATO_API_KEY"
"""Environment variable with the key that requests must bear."""


@dataclass(frozen=True)
class Serve:
    """Serve models to this machine: a page for each, and an API.

    A model that solves puzzles gets the page of `ostinato export --format web`, in which it runs in
    the browser, and POST /v1/solve. A language model gets a page to chat, and OpenAI's API:
    /v1/completions and /v1/chat/completions. Give one of each to serve both. If the environment
    variable OSTINATO_API_KEY is set, requests under /v1/ must bear that key.
    """

    models: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="[MODEL ...]", help_behavior_hint=""),
    ]
    """Run folders, weights files, names of models of the package, or hf:owner/name on the Hub
    (default: the larger Sudoku model of the package)."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8000
    """Port to listen at."""
    puzzles: Path | None = None
    """A file of puzzles that the page offers beside generated ones."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU. For the API."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to compute in, for the API. "auto": as in training, but float32 on a CPU that is slow
    in bfloat16."""
    product: Literal["auto", "numba", "float", "int8"] = "auto"
    """Way in which a language model multiplies with ternary weights, as for `ostinato generate`."""
    limits: Limits = field(default_factory=Limits)

    def run(self) -> int:
        from ostinato.models import RecursiveModel
        from ostinato.web.server import check_kinds, create_app

        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port}: give a number from 0 to 65535")
        served = self.served()
        check_kinds(served)
        with tempfile.TemporaryDirectory() as folder:
            site, pages = Path(folder), 0
            for one in sorted(served, key=lambda one: not isinstance(one.model, RecursiveModel)):
                try:
                    self.write_page(site, one, "chat.html" if pages else "index.html")
                    pages += 1
                except ValueError as error:
                    print(f"no page for {one.name}, only the API: {error}", file=sys.stderr)
            key = os.environ.get(KEY) or None
            app = create_app(served, site, self.limits, self.hosts(), key)
            address = f"http://{self.host}:{self.port}/"
            print(address, *[f"{address}chat.html"] * (pages > 1), sep="\n", file=sys.stderr)
            self.listen(app)
        return 0

    def served(self) -> "list[Served]":
        """Load the models."""
        from ostinato.training.run import pick_device
        from ostinato.web.server import Served
        from ostinato.weights.load import load

        device = pick_device(self.device)
        return [
            Served(
                model if model in packaged() else name_of(Path(model).resolve()),
                load(model, device, forward_dtype=self.forward_dtype),
                model,
                self.product,
            )
            for model in self.models or DEFAULTS[-1:]
        ]

    def write_page(self, site: Path, served: "Served", page: str) -> None:
        """Write the page of a model."""
        from ostinato.cli.sample_arguments import written_puzzles
        from ostinato.models import NanoChat, RecursiveModel
        from ostinato.web.site import write_chat, write_site
        from ostinato.web.writing import speaks
        from ostinato.weights.load import load

        if isinstance(served.model, NanoChat):
            write_chat(site, served.name, speaks(served.model), page)
            return
        print("preparing the page …", file=sys.stderr)
        in_page = load(served.source, kind=RecursiveModel, forward_dtype="float32")
        puzzles = written_puzzles(in_page, self.puzzles) if self.puzzles else []
        write_site(in_page, site, served.name, puzzles=puzzles)

    def hosts(self) -> list[str]:
        """Return the names that requests may use: any, unless only this machine can send them."""
        here = ["127.0.0.1", "localhost"]
        return here if self.host in here else ["*"]

    def listen(self, app: object) -> None:
        """Serve until a signal. Raises ValueError if nobody can listen at the address."""
        import uvicorn

        try:
            uvicorn.run(
                app,  # pyright: ignore[reportArgumentType]
                host=self.host,
                port=self.port,
                log_level="warning",
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=5,
            )
        except SystemExit as error:
            if error.code not in (1, 3):  # of uvicorn, which has told why; others are signals
                raise
            raise ValueError(
                f"cannot listen at {self.host}:{self.port}: choose another --port"
            ) from error


def name_of(path: Path) -> str:
    """Return the name of a model: that of its folder, or of its file without the ending."""
    return path.name if path.is_dir() else path.stem
