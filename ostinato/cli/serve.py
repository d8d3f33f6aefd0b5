"""`ostinato serve [MODEL]`."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ostinato.weights import DEFAULTS


@dataclass(frozen=True)
class Serve:
    """Serve a page in which a model solves puzzles, and an API that streams its steps.

    The page is that of `ostinato export --format web`: the model runs in the browser. The API,
    POST /v1/solve, runs it here. Nobody but this machine can reach either.
    """

    model: tyro.conf.Positional[str] = DEFAULTS[0]
    """A run folder, a weights file, the name of a model of the package, or owner/name on the
    Hub."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8000
    """Port to listen at."""
    puzzles: Path | None = None
    """A file of puzzles that the page offers beside generated ones."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU. For the API."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to think in, for the API. "auto": as in training, but float32 on a CPU that is slow in
    bfloat16."""

    def run(self) -> int:
        try:
            import uvicorn
        except ImportError as error:
            raise ValueError("serving needs uvicorn: pip install 'ostinato[web]'") from error
        from ostinato.cli.sample_arguments import written_puzzles
        from ostinato.models import RecursiveModel
        from ostinato.training.run import pick_device
        from ostinato.web.server import create_app
        from ostinato.web.site import write_site
        from ostinato.weights.load import load

        model = load(
            self.model,
            pick_device(self.device),
            kind=RecursiveModel,
            forward_dtype=self.forward_dtype,
        )
        in_page = load(self.model, kind=RecursiveModel, forward_dtype="float32")
        with tempfile.TemporaryDirectory() as folder:
            site = Path(folder)
            print("preparing the page …", file=sys.stderr)
            puzzles = written_puzzles(in_page, self.puzzles) if self.puzzles else []
            write_site(in_page, site, Path(self.model).stem, puzzles=puzzles)
            app = create_app(model, site, hosts=self.hosts())
            print(f"http://{self.host}:{self.port}/", file=sys.stderr)
            try:
                uvicorn.run(
                    app, host=self.host, port=self.port, log_level="warning", limit_concurrency=256
                )
            except SystemExit as error:  # uvicorn has told why
                raise ValueError(
                    f"cannot listen at {self.host}:{self.port}: choose another --port"
                ) from error
        return 0

    def hosts(self) -> list[str]:
        """Return the names that requests may use: any, unless only this machine can send them."""
        here = ["127.0.0.1", "localhost"]
        return here if self.host in here else ["*"]
