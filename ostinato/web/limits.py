"""Limits of the server, and the middleware that keeps requests within them."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from ostinato.numbers import Count, Positive, check_numbers


@dataclass(frozen=True)
class Limits:
    """Bound what a request may ask for, and how many may wait."""

    max_body: Count = 2**18
    """Bytes of a request."""
    body_seconds: Positive = 10.0
    """Seconds in which a request must have arrived."""
    max_puzzles: Count = 64
    """Puzzles in a request."""
    max_steps: Count = 256
    """Supervision steps for each puzzle."""
    max_seconds: Positive = 60.0
    """Seconds in which all puzzles of a request must be solved."""
    max_texts: Count = 16
    """Texts that a request may ask for: prompts times n."""
    texts_at_once: Count = 8
    """Texts that are written at the same time."""
    max_requests: Count = 256
    """Requests that are answered at the same time, streams until their end; further ones are
    refused."""
    max_waiting: Count = 16
    """Puzzle requests, and texts, that wait; further ones are refused."""

    def __post_init__(self):
        check_numbers(self)


KEEP_ALIVE = 5
"""Seconds that a connection may be idle after an answer."""


def error_body(
    status: int, reason: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return an error as OpenAI's API writes it, in one line. `param` is the field to blame."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = " ".join(reason.split())
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


TEXT_OR_NULL: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
FIELDS = {
    "message": {"type": "string"},
    "type": {"type": "string"},
    "param": TEXT_OR_NULL,
    "code": TEXT_OR_NULL,
}
ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": FIELDS,
            "required": list(FIELDS),
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
"""JSON schema of an error."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": ERROR}},
    }
    for status in (400, 401, 404, 408, 413, 415, 422, 429, 503)
}
"""Statuses of refusals, for the description of the API."""


class Refused(Exception):
    """Refuse a request with an HTTP status, and what `error_body` tells."""

    def __init__(self, status: int, reason: str, code: str | None = None, param: str | None = None):
        super().__init__(reason)
        self.status, self.body = status, error_body(status, reason, code, param)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"} if self.status in (429, 503) else {}


class Gate:
    """Middleware that counts requests, checks host and key, and reads the whole body."""

    def __init__(self, app: Any, limits: Limits, hosts: Sequence[str], key: str | None = None):
        self.app, self.limits, self.hosts, self.key = app, limits, hosts, key
        self.answering = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if self.answering >= self.limits.max_requests:
            return await self.refuse(send, 503, "too many requests at once: try again later")
        self.answering += 1
        try:
            await self.admit(scope, receive, send)
        finally:  # an answer has been sent whole, or the client has gone
            self.answering -= 1

    async def admit(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on if it may be answered, once it has arrived."""
        if not self.is_host(scope):
            names = " or ".join(self.hosts)
            return await self.refuse(send, 400, f"wrong Host header: call the server {names}")
        if self.key and scope["path"].startswith("/v1/") and not self.knows_key(scope):
            reason = "the key is missing or wrong: send the header Authorization: Bearer KEY"
            return await self.refuse(send, 401, reason)
        body = b""
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None  # the client has gone
                    body += message.get("body", b"")
                    if len(body) > self.limits.max_body:
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

    def is_host(self, scope: Any) -> bool:
        """Return whether a request calls the server by one of its names, with any port."""
        given = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = re.sub(r":\d*\Z", "", given)
        return any(fnmatchcase(name, host.lower()) for host in self.hosts)

    def knows_key(self, scope: Any) -> bool:
        assert self.key is not None
        given = dict(scope["headers"]).get(b"authorization", b"")
        return secrets.compare_digest(given, f"Bearer {self.key}".encode())

    async def refuse(self, send: Any, status: int, reason: str) -> None:
        from starlette.responses import JSONResponse

        refusal = Refused(status, reason)
        headers = refusal.headers | {"Connection": "close"}
        response = JSONResponse(refusal.body, status, headers)
        await response({"type": "http"}, None, send)  # pyright: ignore[reportArgumentType]
