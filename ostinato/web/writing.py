"""Serve a language model by OpenAI's API: completions and chat completions, whole or streamed.

Requests are written in one batch, a token of each at a time (`ostinato.inference.batch`).
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge

from ostinato.data.text.template import CHATML, prompt_tokens
from ostinato.inference.batch import Batch, Engine, Full, Writing
from ostinato.inference.decoder import Way
from ostinato.inference.generate import Piece, byte_tokenizer_of
from ostinato.models import NanoChat
from ostinato.web.answers import AnswerForm, Form, TextForm, Written, usage
from ostinato.web.limits import REFUSALS, Limits, Refused
from ostinato.web.openai import Asked, AskedAnswer, AskedText


def speaks(model: NanoChat) -> bool:
    """Return whether a model has learnt to answer, and not only to continue texts."""
    return model.chat_template == CHATML


RESPONSES = {200: {"content": {"text/event-stream": {}}, "description": "answers"}, **REFUSALS}


class Answers:
    """Hold all answers to a request while they are written."""

    def __init__(self, engine: Engine, writings: list[Writing], stream: bool):
        """Queue the texts; without `stream`, only ends are told. Raises Refused if all is full."""
        self.answers = [Written(writing) for writing in writings]
        self.events: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for index, writing in enumerate(writings):

            def tell(piece: Piece | Exception, index: int = index) -> None:
                if isinstance(piece, Piece):
                    self.answers[index].pieces.append(piece)
                    if not (stream or piece.finish):
                        return  # every change of threads would cost as much as a token
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self.events.put_nowait, (index, piece))

            writing.tell = tell
        try:
            engine.submit(writings)
        except Full as error:
            raise Refused(503 if engine.closed else 429, str(error)) from None

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yield what is told as it comes; texts are given up when nobody asks for more."""
        unfinished = len(self.answers)
        try:
            while unfinished:
                index, piece = await self.events.get()
                if isinstance(piece, Exception):
                    raise Refused(503, "the model has failed: look at the server's log")
                unfinished -= bool(piece.finish)
                yield index, piece
        finally:
            for answer in self.answers:
                answer.writing.given_up = True

    async def drain(self) -> None:
        """Wait for the last piece."""
        async for _ in self.pieces():
            pass


class Desk:
    """Take requests for one model, and answer them."""

    def __init__(
        self,
        name: str,
        model: NanoChat,
        limits: Limits,
        registry: CollectorRegistry,
        product: Way | Literal["auto"] = "auto",
    ):
        self.name, self.limits, self.speaks = name, limits, speaks(model)
        self.tokenizer = byte_tokenizer_of(model)
        batch = Batch(model, self.tokenizer, limits.texts_at_once, product)
        self.engine = Engine(batch, limits.max_waiting)
        self.written = Counter("ostinato_tokens_written", "Tokens written.", registry=registry)
        self.read = Counter("ostinato_tokens_read", "Tokens of prompts.", registry=registry)
        texts = Gauge("ostinato_texts", "Texts in the batch and the queue.", registry=registry)
        texts.set_function(lambda: self.engine.unfinished)
        self.routes = APIRouter()
        for path, answer in (
            ("/v1/completions", self.complete),
            ("/v1/chat/completions", self.chat),
        ):
            self.routes.add_api_route(path, answer, methods=["POST"], responses=RESPONSES)

    @property
    def is_running(self) -> bool:
        """Return whether requests are answered; a fault of the model ends the writing for good."""
        return not self.engine.closed

    def open(self) -> None:
        """Begin to write."""
        self.engine.start()

    def close(self) -> None:
        """Stop writing."""
        self.engine.close()

    async def complete(self, asked: AskedText, request: Request) -> Response:
        """Continue each prompt."""
        if asked.echo and asked.wants_tokens:
            reason = "logprobs of the prompt are not known: leave out echo or logprobs"
            raise Refused(400, reason, param="logprobs")
        if asked.best_of not in (None, asked.n or 1):
            reason = "best_of: not supported here: leave it out, or give the value of n"
            raise Refused(422, reason, param="best_of")
        try:
            prompts = asked.prompts(self.tokenizer)
        except ValueError as error:
            raise Refused(400, str(error), param="prompt") from None
        writings = self.writings(prompts, asked, "prompt")
        answers = Answers(self.engine, writings, bool(asked.stream))
        form = TextForm(self.name, self.tokenizer, asked.wants_tokens, bool(asked.echo))
        return await self.respond(request, answers, form, asked)

    async def chat(self, asked: AskedAnswer, request: Request) -> Response:
        """Answer in a conversation."""
        if asked.top_logprobs and not asked.logprobs:
            reason = "top_logprobs: set logprobs to true as well"
            raise Refused(422, reason, param="top_logprobs")
        if not self.speaks:
            reason = "the model has not learnt to answer: use /v1/completions"
            raise Refused(400, reason, param="model")
        try:
            messages = [turn.message for turn in asked.messages]
            prompt = prompt_tokens(self.tokenizer, messages)
        except ValueError as error:
            raise Refused(400, str(error), param="messages") from None
        writings = self.writings([prompt], asked, "messages")
        answers = Answers(self.engine, writings, bool(asked.stream))
        form = AnswerForm(self.name, self.tokenizer, asked.wants_tokens)
        return await self.respond(request, answers, form, asked)

    def writings(self, prompts: Sequence[Sequence[int]], asked: Asked, field: str) -> list[Writing]:
        """Return the texts that a request asks for, with the prompts of a field.

        Raises Refused for an impossible request.
        """
        if asked.model not in (None, self.name):
            reason = f"there is no model {asked.model!r}: use {self.name}"
            raise Refused(404, reason, "model_not_found", "model")
        n = asked.n or 1
        texts = len(prompts) * n
        if not 0 < texts <= self.limits.max_texts:
            reason = f"ask for 1 to {self.limits.max_texts} texts, not {texts}"
            raise Refused(422, reason, param=field if n == 1 or not prompts else "n")
        if asked.wants_usage and not asked.stream:
            reason = "stream_options: set stream to true as well"
            raise Refused(422, reason, param="stream_options")
        if "" in asked.stops:
            raise Refused(422, "stop: a stop string must not be empty", param="stop")
        seed = secrets.randbits(62) if asked.seed is None else asked.seed
        try:
            samplings = [asked.sampling(seed + number) for number in range(texts)]
        except ValueError as error:  # the form bounds the other settings
            raise Refused(400, str(error), param="temperature") from None
        found = []
        for number, tokens in enumerate(map(tuple, prompts)):
            room = self.engine.config.seq_len - len(tokens) + 1
            try:
                self.engine.check(tokens)
            except ValueError as error:
                code = "context_length_exceeded" if room < 1 else None
                raise Refused(400, str(error), code, field) from None
            most = min(asked.most_tokens or room, room)
            found += [
                Writing(tokens, print, most, sampling, asked.stops, asked.likeliest)
                for sampling in samplings[number * n :][:n]
            ]
        return found

    async def respond(
        self, request: Request, answers: Answers, form: Form, asked: Asked
    ) -> Response:
        """Answer with a stream, or whole when the last text has ended."""
        if asked.stream:
            events = self.events(answers, form, asked)
            return StreamingResponse(events, media_type="text/event-stream")
        waiting = asyncio.ensure_future(answers.drain())
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=0.2)
                if await request.is_disconnected():
                    waiting.cancel()
                    return Response(status_code=499)  # nobody reads it
            waiting.result()
        finally:
            self.count(answers)
        return JSONResponse(form.whole(answers.answers))

    async def events(self, answers: Answers, form: Form, asked: Asked) -> AsyncIterator[str]:
        """Yield the events of a stream."""
        try:
            for index, answer in enumerate(answers.answers):
                if (first := form.first(answer.writing)) is not None:
                    yield form.event({"index": index, **first})
            starts = [0] * len(answers.answers)
            async for index, piece in answers.pieces():
                if piece.text or piece.finish or form.wants_tokens:
                    yield form.event({"index": index, **form.delta(piece, starts[index])})
                starts[index] += len(piece.text)
            if asked.wants_usage:
                yield form.event(usage=usage(answers.answers))
            yield "data: [DONE]\n\n"
        except Refused as error:
            yield f"data: {json.dumps(error.body)}\n\n"
        finally:
            self.count(answers)

    def count(self, answers: Answers) -> None:
        """Add the tokens of a request to the metrics."""
        tokens = usage(answers.answers)
        self.read.inc(tokens["prompt_tokens"])
        self.written.inc(tokens["completion_tokens"])
