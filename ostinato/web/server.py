"""A server for models: the pages, an API for puzzles, and OpenAI's API for language models.

`thinking.py` has the routes of puzzles, `writing.py` those of texts. Both kinds of models can be
served by one process.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ostinato.inference.decoder import Way
from ostinato.models import NanoChat, RecursiveModel
from ostinato.web.limits import Gate, Limits, Refused, error_body


@dataclass(frozen=True)
class Served:
    """Hold a model and the name that requests call it by."""

    name: str
    model: RecursiveModel | NanoChat
    source: str = ""
    """Name or path that it was loaded from."""
    product: Way | Literal["auto"] = "auto"
    """Way in which a language model multiplies: see `ostinato.inference.decoder`."""


def check_kinds(models: Sequence[Served]) -> None:
    """Raise ValueError if two models would share an address."""
    solvers = sum(isinstance(served.model, RecursiveModel) for served in models)
    if max(solvers, len(models) - solvers) > 1:
        raise ValueError("give at most one model that solves puzzles and one that writes texts")


def create_app(
    models: Sequence[Served],
    site: Path | None = None,
    limits: Limits | None = None,
    hosts: Sequence[str] = ("*",),
    key: str | None = None,
) -> Any:
    """Return a FastAPI application for at most one puzzle model and one language model.

    `site` holds the pages. Requests for other `hosts` are refused: pages of the web could send them
    under a name of theirs. With a `key`, requests must bear it. Raises ValueError if FastAPI is not
    installed, and for models that cannot be served.
    """
    try:
        import uvicorn  # noqa: F401 what serves the application
        from fastapi import FastAPI, Request
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import JSONResponse, Response
        from fastapi.staticfiles import StaticFiles
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from starlette.exceptions import HTTPException
    except ImportError as error:
        raise ValueError("the server needs FastAPI: pip install 'ostinato[web]'") from error
    from ostinato.web.thinking import Line
    from ostinato.web.writing import Desk

    check_kinds(models)
    limits, registry = limits or Limits(), CollectorRegistry()
    parts = [
        Line(served.model, limits, registry)
        if isinstance(served.model, RecursiveModel)
        else Desk(served.name, served.model, limits, registry, served.product)
        for served in models
    ]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for part in parts:
            part.open()
        yield
        for part in parts:
            part.close()

    app = FastAPI(
        title="Ostinato",
        version=version("ostinato"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        lifespan=lifespan,
    )
    app.add_middleware(Gate, limits=limits, hosts=hosts, key=key)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse(error_body(422, fault(first), param=field_of(first)), 422)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        reason = str(error.detail)
        if error.status_code in (404, 405):
            reason = f"there is no {request.method} {request.url.path}: see /v1/openapi.json"
        elif error.status_code == 400:
            reason = "the body cannot be read: send JSON in UTF-8"
        body = error_body(error.status_code, reason)
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:
        return JSONResponse(error_body(500, "the server has failed: look at its log"), 500)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        if not all(part.is_running for part in parts):
            raise Refused(503, "a model has failed: look at the server's log")
        return {"status": "ok", "models": [served.name for served in models]}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        found = [
            {"id": served.name, "object": "model", "owned_by": "ostinato"} for served in models
        ]
        return {"object": "list", "data": [model | {"created": 0} for model in found]}

    for part in parts:
        app.include_router(part.routes)
    if site is not None:
        # A mount would answer for the API too, if only the method is wrong
        pages, nothing = StaticFiles(directory=site, html=True), app.router.default

        async def rest(scope: Any, receive: Any, send: Any) -> None:
            is_page = scope["type"] == "http" and not scope["path"].startswith("/v1/")
            await (pages if is_page else nothing)(scope, receive, send)

        app.router.default = rest
    return app


def field_of(error: dict[str, Any]) -> str | None:
    """Return the field that is wrong as OpenAI's API writes it, such as messages[0].content."""
    if error["type"] == "json_invalid":
        return None
    places = error["loc"][1:]  # behind "body"
    parts = (f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return "".join(parts).removeprefix(".") if places else None


def fault(error: dict[str, Any]) -> str:
    """Return what is wrong with a request, in one line that names the remedy."""
    if error["type"] == "json_invalid":
        place = error["loc"][-1] + 1
        return f"the body is not JSON: {error['ctx']['error']} at character {place}"
    field = field_of(error)
    if field is None:
        return "send a JSON object, with the header Content-Type: application/json"
    if error["type"] in ("extra_forbidden", "none_required"):
        return f"{field}: not known here, or without effect: leave it out"
    return f"{field}: {error['msg']}"
