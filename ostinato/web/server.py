"""A server for this machine: the page, and an API that streams a model's steps while it thinks.

    POST /v1/solve   {"puzzles": ["53..7…"], "search": "symmetries", "max_steps": 16}

answers with server-sent events: `step` after every look at the answer, `solution` for every puzzle
in order, `error` if there was no time left. One puzzle is thought about at a time; requests wait in
a short queue, and what does not fit there is refused with status 429.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ostinato.data.tasks import task_named
from ostinato.inference.pursuit import Question
from ostinato.inference.search import CONFIRMED, SEARCHES
from ostinato.inference.solve import Solution, read_puzzle
from ostinato.inference.stream import think_stream
from ostinato.inference.think import Step
from ostinato.models import RecursiveModel

SEARCH_NAMES = Literal[tuple(SEARCHES)]  # pyright: ignore[reportInvalidTypeForm]


@dataclass(frozen=True)
class Limits:
    """What a request may ask for, and how many may wait."""

    body_bytes: int = 2**18
    body_seconds: float = 10.0
    """Time to send a request in."""
    puzzles: int = 64
    steps: int = 256
    seconds: float = 60.0
    """Time to think in."""
    waiting: int = 16
    """Requests that wait or are thought about; further ones are refused."""


class Stopped(Exception):
    """Nobody waits for the answer any more, or there was no time left."""


def create_app(
    model: RecursiveModel,
    site: Path | None = None,
    limits: Limits | None = None,
    hosts: Sequence[str] = ("*",),
) -> Any:
    """Return a FastAPI application for `model`, which has to name its task; `site` holds the page.

    Requests for other `hosts` are refused: pages of the web could send them under a name of theirs.
    Raises ValueError if FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import JSONResponse, StreamingResponse
        from fastapi.staticfiles import StaticFiles
        from pydantic import BaseModel, ConfigDict, Field
        from starlette.exceptions import HTTPException
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise ValueError("the server needs FastAPI: pip install 'ostinato[web]'") from error
    limits = limits or Limits()
    task_named(model.config.task)
    app = FastAPI(title="Ostinato", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.add_middleware(BodyLimits, limits=limits)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    line = Line(model, limits)

    class Ask(BaseModel):
        model_config = ConfigDict(extra="forbid")
        puzzles: list[str] = Field(min_length=1, max_length=limits.puzzles)
        search: SEARCH_NAMES | None = None  # pyright: ignore[reportInvalidTypeForm]
        max_steps: int | None = Field(None, ge=1, le=limits.steps, strict=True)

    class Refusal(BaseModel):
        error: str

    def refuse(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(reason.split())}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return refuse(422, f"{where}: {first['msg']}" if where else first["msg"])

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, str(error.detail), dict(error.headers or {}))

    statuses: dict[int | str, Any] = {
        200: {"content": {"text/event-stream": {}}, "description": "steps and solutions"},
        **{status: {"model": Refusal} for status in (400, 408, 413, 415, 422, 429)},
    }

    @app.post("/v1/solve", response_class=StreamingResponse, responses=statuses)
    async def solve(ask: Ask) -> StreamingResponse:
        try:
            puzzles = [read_puzzle(model, text)[0] for text in ask.puzzles]
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        search = CONFIRMED if ask.search is None else SEARCHES[ask.search]
        search = replace(search, verify=True) if ask.search == "guesses" else search
        if line.full:
            raise HTTPException(429, "too many requests: try again later", {"Retry-After": "5"})
        events = line.think([Question(puzzle) for puzzle in puzzles], search, ask.max_steps)
        return StreamingResponse(events, media_type="text/event-stream")

    if site is not None:
        app.mount("/", StaticFiles(directory=site, html=True))
    return app


class Line:
    """The queue of requests: one thread thinks, in the order in which they came."""

    def __init__(self, model: RecursiveModel, limits: Limits):
        self.model, self.limits = model, limits
        self.task = task_named(model.config.task)
        self.thread = ThreadPoolExecutor(1, "think")
        self.waiting = 0

    @property
    def full(self) -> bool:
        return self.waiting >= self.limits.waiting

    def think(
        self, questions: list[Question], search: Any, max_steps: int | None
    ) -> AsyncIterator[str]:
        """Take a place in the queue; returns the events of a request."""
        self.waiting += 1
        loop, events = asyncio.get_running_loop(), asyncio.Queue()
        stop = threading.Event()

        def tell(event: tuple[str, dict[str, Any]] | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        def leave() -> None:
            self.waiting -= 1

        def work() -> None:
            try:
                self.work(questions, search, max_steps, tell, stop)
            except Stopped as reason:
                tell(("error", {"error": str(reason)}))
            finally:
                tell(None)
                if not loop.is_closed():
                    loop.call_soon_threadsafe(leave)

        self.thread.submit(work)
        return self.events(events, stop)

    async def events(self, events: asyncio.Queue, stop: threading.Event) -> AsyncIterator[str]:
        try:
            while (event := await events.get()) is not None:
                yield f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
        finally:  # also when the client has gone
            stop.set()

    def work(
        self,
        questions: list[Question],
        search: Any,
        max_steps: int | None,
        tell: Callable[[tuple[str, dict[str, Any]]], None],
        stop: threading.Event,
    ) -> None:
        """Think about the puzzles, one after the other; raises Stopped."""
        end = time.monotonic() + self.limits.seconds
        for index, question in enumerate(questions):

            def on_step(step: Step, index: int = index) -> None:
                if stop.is_set():
                    raise Stopped("the client has gone")
                if time.monotonic() > end:
                    raise Stopped(f"no answer in {self.limits.seconds:g} s: ask for less")
                tell(("step", {"number": index, **self.written(step)}))

            if stop.is_set():
                raise Stopped("the client has gone")
            (thought,) = think_stream(self.model, [question], search, max_steps, on_step=on_step)
            solution = Solution.of(self.model, search, thought)
            tell(("solution", {"number": index, **asdict(solution)}))

    def written(self, step: Step) -> dict[str, Any]:
        """A step of all views that are thought about together; the answer only of a single one."""
        alone = len(step.answer) == 1
        return {
            "step": round(step.number, 3),
            "confidence": [round(q, 4) for q in torch.sigmoid(step.q_halt.float()).tolist()],
            "answer": self.task.format(step.answer[0].cpu().numpy()) if alone else None,
        }


class BodyLimits:
    """Middleware that reads a request's body before anything else, or refuses it."""

    def __init__(self, app: Any, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = b""
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None  # gone
                    body += message.get("body", b"")
                    if len(body) > self.limits.body_bytes:
                        return await self.refuse(
                            send, 413, "the request is too large: ask for less"
                        )
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            return await self.refuse(send, 408, "the request came too slowly: send it at once")
        first = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return first.pop() if first else await receive()

        return await self.app(scope, replay, send)

    async def refuse(self, send: Any, status: int, reason: str) -> None:
        from fastapi.responses import JSONResponse

        response = JSONResponse({"error": reason}, status, {"Connection": "close"})
        await response({"type": "http"}, None, send)  # pyright: ignore[reportArgumentType]
