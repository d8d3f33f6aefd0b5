"""Requests that are answered at the same time are counted, streams until their end."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from ostinato.web.limits import Limits
from ostinato.web.server import Served, create_app
from tests.inference.stand_in import LookUp
from tests.web.listening import listening

ASKED = {"puzzles": ["12....3........4"], "max_steps": 4}
"""A puzzle without a solution, so that it takes every step."""


class Held(LookUp):
    """Takes a step when it is let."""

    def __init__(self):
        super().__init__()
        self.steps = threading.Semaphore(0)

    def reply(self, *args):
        self.steps.acquire(timeout=30)
        return super().reply(*args)


@pytest.fixture
def model() -> Iterator[Held]:
    held = Held()
    yield held
    held.steps.release(1000)


@pytest.fixture
def address(model: Held) -> Iterator[str]:
    limits = Limits(max_requests=2, max_waiting=8)
    with listening(create_app([Served("held", model)], limits=limits, key="secret")) as address:
        yield address


def stream(client: httpx.Client, address: str):
    headers = {"Authorization": "Bearer secret"}
    return client.stream("POST", f"{address}/v1/solve", json=ASKED, headers=headers)


def wait_for_a_place(address: str) -> None:
    end = time.monotonic() + 20
    while httpx.get(f"{address}/health").status_code != 200:
        assert time.monotonic() < end, "a place is still taken"
        time.sleep(0.05)


def test_a_request_too_many_is_refused_in_openai_s_form(address: str):
    with httpx.Client(timeout=60) as client, stream(client, address), stream(client, address):
        for path, method in (("/health", "GET"), ("/v1/solve", "POST"), ("/", "GET")):
            answer = httpx.request(method, address + path)
            assert answer.status_code == 503
            message = "too many requests at once: try again later"
            error = {"message": message, "type": "server_error", "param": None, "code": None}
            assert answer.json() == {"error": error}
            assert answer.headers["content-type"] == "application/json"
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["connection"] == "close"


def test_a_stream_counts_until_its_last_event(address: str, model: Held):
    with httpx.Client(timeout=60) as client, stream(client, address) as first:
        lines = first.iter_lines()
        with stream(client, address):
            model.steps.release(2)
            assert next(lines) == "event: step"
            assert httpx.get(f"{address}/health").status_code == 503
            model.steps.release(2)
            assert "event: solution" in lines
            wait_for_a_place(address)
            with stream(client, address) as third:
                assert third.status_code == 200
                assert httpx.get(f"{address}/health").status_code == 503


def test_a_client_that_goes_away_leaves_its_place(address: str):
    with httpx.Client(timeout=60) as client, stream(client, address):
        with stream(client, address):
            assert httpx.get(f"{address}/health").status_code == 503
        wait_for_a_place(address)


def test_a_request_counts_while_it_arrives(address: str):
    host, port = address.removeprefix("http://").split(":")
    head = b"POST /v1/solve HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
    with httpx.Client(timeout=60) as client, stream(client, address):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head + b"Content-Length: 9\r\n\r\n{")
            end = time.monotonic() + 20
            while httpx.get(f"{address}/health").status_code != 503:
                assert time.monotonic() < end, "it is not counted"
        wait_for_a_place(address)


def test_refusals_and_idle_connections_take_no_place(address: str):
    clients = [httpx.Client() for _ in range(4)]
    for client in clients:
        assert client.get(f"{address}/v1/models").status_code == 401
        assert client.get(f"{address}/none").status_code == 404
        assert client.get(f"{address}/health").status_code == 200  # the connection stays open
    for client in clients:
        client.close()
