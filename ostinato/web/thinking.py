"""The API for puzzles, which streams a model's steps while it thinks.

    POST /v1/solve   {"puzzles": ["53..7…"], "search": "symmetries", "max_steps": 16}

The answer is server-sent events: `step` after every look at the answer, `solution` for every puzzle
in order, `error` if there was no time left. One puzzle is thought about at a time; requests wait in
a short queue, and what does not fit there is refused with status 429.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any, Literal

import torch
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, ConfigDict, Field

from ostinato.data.tasks import task_named
from ostinato.inference.pursuit import Look, Question
from ostinato.inference.search import CONFIRMED, LONGER, SEARCHES, Search
from ostinato.inference.solve import Solution, read_puzzle, suited
from ostinato.inference.stream import feasible, think_stream
from ostinato.models import RecursiveModel
from ostinato.web.limits import REFUSALS, Limits, Refused

LOG = logging.getLogger(__name__)
SEARCH_NAMES = Literal[tuple(SEARCHES)]  # pyright: ignore[reportInvalidTypeForm]


class Stopped(Exception):
    """Nobody waits for the answer any more, or there was no time left."""


class Ask(BaseModel):
    """Hold a request to solve puzzles."""

    model_config = ConfigDict(extra="forbid")
    puzzles: list[str] = Field(min_length=1)
    search: SEARCH_NAMES | None = None  # pyright: ignore[reportInvalidTypeForm]
    max_steps: int | None = Field(None, ge=1, strict=True)


def search_of(ask: Ask) -> Search:
    """Return the search that a request asks for, as `ostinato solve` does: the rules accept."""
    if ask.search is not None:
        return replace(SEARCHES[ask.search], verify=True)
    return LONGER if ask.max_steps is None else CONFIRMED


class Line:
    """Hold the queue of requests: one thread thinks, in the order in which they came."""

    def __init__(self, model: RecursiveModel, limits: Limits, registry: CollectorRegistry):
        """Raise ValueError if the model does not name its task."""
        self.model, self.limits = model, limits
        self.task = task_named(model.config.task)
        self.waiting = 0
        self.asked = Counter("ostinato_puzzles", "Puzzles asked for.", registry=registry)
        self.routes = APIRouter()
        self.routes.add_api_route(
            "/v1/solve",
            self.solve,
            methods=["POST"],
            response_class=StreamingResponse,
            responses={
                200: {"content": {"text/event-stream": {}}, "description": "steps and solutions"},
                **REFUSALS,
            },
        )

    @property
    def is_running(self) -> bool:
        """Return whether requests are answered; a fault ends only its own request."""
        return True

    async def solve(self, ask: Ask) -> StreamingResponse:
        """Stream the steps and the solutions of puzzles."""
        if len(ask.puzzles) > self.limits.max_puzzles:
            reason = f"puzzles: give at most {self.limits.max_puzzles}"
            raise Refused(422, reason, param="puzzles")
        if ask.max_steps is not None and ask.max_steps > self.limits.max_steps:
            reason = f"max_steps: give at most {self.limits.max_steps}"
            raise Refused(422, reason, param="max_steps")
        puzzles, field = [], ""
        try:
            for index, text in enumerate(ask.puzzles):
                field = f"puzzles[{index}]"
                puzzles.append(read_puzzle(self.model, text)[0])
            field = "search"
            search = feasible(suited(search_of(ask), self.model), self.model)
        except ValueError as error:
            raise Refused(400, f"{field}: {error}", param=field) from None
        if self.waiting >= self.limits.max_waiting:
            raise Refused(429, "too many requests: try again later")
        self.asked.inc(len(puzzles))
        events = self.think([Question(puzzle) for puzzle in puzzles], search, ask.max_steps)
        return StreamingResponse(events, media_type="text/event-stream")

    def open(self) -> None:
        """Begin to think."""
        self.thread = ThreadPoolExecutor(1, "think")

    def close(self) -> None:
        """Give up what waits."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def think(
        self, questions: list[Question], search: Search, max_steps: int | None
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
            except Exception:
                LOG.exception("thinking has failed")
                tell(("error", {"error": "the model has failed: look at the server's log"}))
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
        search: Search,
        max_steps: int | None,
        tell: Callable[[tuple[str, dict[str, Any]]], None],
        stop: threading.Event,
    ) -> None:
        """Think about the puzzles, one after the other; raises Stopped."""
        end = time.monotonic() + self.limits.max_seconds
        for index, question in enumerate(questions):

            def on_look(look: Look, index: int = index) -> None:
                if stop.is_set():
                    raise Stopped("the client has gone")
                if time.monotonic() > end:
                    raise Stopped(f"no answer in {self.limits.max_seconds:g} s: ask for less")
                tell(("step", {"number": index, **self.written(look)}))

            if stop.is_set():
                raise Stopped("the client has gone")
            (thought,) = think_stream(self.model, [question], search, max_steps, on_look=on_look)
            solution = Solution.of(self.model, search, thought)
            tell(("solution", {"number": index, **asdict(solution)}))

    def written(self, look: Look) -> dict[str, Any]:
        """Return what is seen of a puzzle: the surest answer, and how sure each attempt is."""
        return {
            "way": look.way,
            "step": round(look.step, 3),
            "confidence": [round(q, 4) for q in torch.tensor(look.q_halt).sigmoid().tolist()],
            "answer": self.task.format(look.answer),
        }
