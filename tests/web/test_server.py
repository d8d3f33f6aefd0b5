"""The API on a real socket: what it streams, what it refuses, and that it stands rough clients."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
import schemathesis
import torch
import uvicorn
from fastapi.testclient import TestClient
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ostinato.cli.serve import Serve, name_of
from ostinato.data.table import Table
from ostinato.web.limits import KEEP_ALIVE, Limits
from ostinato.web.server import Served, create_app
from tests.inference.stand_in import LookUp
from tests.web.listening import listening

PUZZLE = ".1..3..12..4..3."
LIMITS = Limits(
    max_body=4000, body_seconds=1.0, max_puzzles=8, max_steps=32, max_seconds=5.0, max_waiting=4
)
APP = create_app([Served("look-up", LookUp())], limits=replace(LIMITS, max_body=Limits.max_body))
SCHEMA = schemathesis.openapi.from_asgi("/v1/openapi.json", APP)


class Slow(LookUp):
    """Takes its time for every step."""

    def reply(self, *args):
        time.sleep(0.05)
        return super().reply(*args)


class OfATable(LookUp):
    """Knows no rules, only examples."""

    def __init__(self):
        super().__init__()
        table = Table(tuple(".1234"), 4, 4)
        self.config = replace(self.config, task=table.name)


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "index.html").write_text("a page")
    model = getattr(request, "param", LookUp)()
    app = create_app([Served("look-up", model)], tmp_path, LIMITS)
    with listening(app) as address:
        yield address


def events(text: str) -> list[tuple[str, dict]]:
    found = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def ask(address: str, **body: object) -> httpx.Response:
    return httpx.post(f"{address}/v1/solve", json=body, timeout=60)


def test_steps_and_solutions_are_streamed_in_order(address: str):
    response = ask(address, puzzles=[PUZZLE, PUZZLE[::-1]])
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response.text)
    numbers = [event["number"] for _, event in found]
    assert numbers == sorted(numbers) and set(numbers) == {0, 1}
    last = [event for kind, event in found if kind == "solution"]
    assert [event["solved"] for event in last] == [True, True]
    assert found[-2][1]["answer"] == last[1]["answer"]
    assert httpx.get(address).text == "a page"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"puzzles": ["1"]}, 400, "16 characters"),
        ({"puzzles": []}, 422, "puzzles"),
        ({"puzzles": [PUZZLE] * 9}, 422, "at most 8"),
        ({"puzzles": [PUZZLE], "search": "luck"}, 422, "search"),
        ({"puzzles": [PUZZLE], "max_steps": 33}, 422, "max_steps"),
        ({"puzzles": [PUZZLE], "speed": 1}, 422, "speed"),
        ({"puzzles": ["." * 5000]}, 413, "too large"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    body: dict, status: int, reason: str, address: str
):
    response = ask(address, **body)
    error = response.json()["error"]["message"]
    assert response.status_code == status and reason in error and "\n" not in error


def test_it_listens_to_this_machine_alone_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    assert Serve(()).hosts() == ["127.0.0.1", "localhost"]
    assert Serve((), host="0.0.0.0").hosts() == ["*"]
    told: dict = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **settings: told.update(settings))
    Serve((), limits=LIMITS).listen(None)
    assert (told["host"], told["timeout_keep_alive"]) == ("127.0.0.1", KEEP_ALIVE)
    # Uvicorn would refuse in plain text
    assert "limit_concurrency" not in told


@pytest.mark.parametrize("address", [OfATable], indirect=True)
def test_where_no_rules_are_known_the_model_is_believed(address: str):
    for search in ({}, {"search": "noise"}):
        kind, event = events(ask(address, puzzles=[PUZZLE], **search).text)[-1]
        assert kind == "solution" and event["solved"]
        assert (event["accepted_by"], event["checked_by"]) == ("q", "model")
    response = ask(address, puzzles=[PUZZLE], search="symmetries")
    assert response.status_code == 400 and "no symmetries" in response.json()["error"]["message"]


def test_the_rules_accept_the_answers_of_a_search(address: str):
    kind, event = events(ask(address, puzzles=[PUZZLE], search="cascade").text)[-1]
    assert kind == "solution" and event["accepted_by"] == "rules"


class Hopeless(LookUp):
    """So unsure that e to the power of q is no number, and then broken."""

    def reply(self, *args):
        self.fail = getattr(self, "fail", -1) + 1
        if self.fail:
            raise RuntimeError("broken")
        output = super().reply(*args)
        return output._replace(q_halt=torch.full_like(output.q_halt, -800.0))


@pytest.mark.parametrize("address", [Hopeless], indirect=True)
def test_a_fault_of_the_model_is_told(address: str):
    contradiction = "12....3........4"
    first, last = events(ask(address, puzzles=[contradiction], max_steps=4).text)
    assert first[0] == "step" and first[1]["confidence"] == [0.0]
    assert last[0] == "error" and "log" in last[1]["error"]


@pytest.mark.parametrize("address", [Slow], indirect=True)
def test_a_long_request_ends_in_time(address: str):
    # A puzzle without a solution takes all steps
    contradiction = "12....3........4"
    kind, event = events(ask(address, puzzles=[contradiction] * 8, max_steps=32).text)[-1]
    assert kind == "error" and "5 s" in event["error"]


@pytest.mark.parametrize("address", [Slow], indirect=True)
def test_many_clients_are_answered_or_refused_whatever_others_do(address: str):
    host, port = address.removeprefix("http://").split(":")

    async def rough(number: int, client: httpx.AsyncClient) -> int:
        if number % 5 == 0:  # begins a request, and never ends it
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /v1/solve HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            await asyncio.sleep(0.1)
            writer.close()
            return 0
        if number % 5 == 1:  # does not wait for the answer
            async with client.stream("POST", f"{address}/v1/solve", json={"puzzles": [PUZZLE] * 8}):
                return 0
        if number % 5 == 2:
            return (await client.post(f"{address}/v1/solve", content=b"\xff{")).status_code
        body = {"puzzles": [PUZZLE]}
        return (await client.post(f"{address}/v1/solve", json=body)).status_code

    async def crowd() -> list[int]:
        async with httpx.AsyncClient(timeout=60) as client:
            return await asyncio.gather(*(rough(number, client) for number in range(60)))

    statuses = asyncio.run(crowd())
    assert {0, 200, 422, 429} == set(statuses)
    assert {statuses[number] for number in range(2, 60, 5)} == {422}
    time.sleep(1.5)  # those that do not wait have been given up
    assert ask(address, puzzles=[PUZZLE]).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:localhost", "localhost:x", ""]
)
def test_a_page_under_another_name_cannot_reach_the_model(host: str):
    app = create_app([Served("look-up", LookUp())], limits=LIMITS, hosts=["localhost", "here"])
    with TestClient(app) as client:
        answer = client.post("/v1/solve", json={"puzzles": [PUZZLE]}, headers={"Host": host})
    assert answer.status_code == 400
    message = "wrong Host header: call the server localhost or here"
    kind = "invalid_request_error"
    expected = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    assert answer.json() == expected


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "a.example:80"])
def test_a_server_is_reached_by_its_names(host: str):
    app = create_app([Served("look-up", LookUp())], hosts=["Localhost", "*.example"])
    with TestClient(app) as client:
        assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/solve", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/models/look-up", 404),
        ("GET", "/none.html", 404),
        ("DELETE", "/", 405),
    ],
)
def test_what_is_not_there_is_told(method: str, path: str, status: int, address: str):
    answer = httpx.request(method, address + path)
    assert answer.status_code == status
    message = f"there is no {method} {path}: see /v1/openapi.json"
    assert answer.json()["error"]["message"] == message


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/x-www-form-urlencoded", b'{"puzzles": []}', 422, "header Content-Type"),
        ("application/json", b"", 422, "send a JSON object"),
        ("application/json", b'{"puzzles": [1,}', 422, "not JSON: Expecting value at character 16"),
        ("application/json", '{"puzzles": ["é"]}'.encode("latin-1"), 400, "JSON in UTF-8"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    kind: str, body: bytes, status: int, reason: str, address: str
):
    answer = httpx.post(f"{address}/v1/solve", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status and reason in answer.json()["error"]["message"]


def test_a_fault_of_the_server_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ostinato.web.thinking.feasible", lambda *_: 1 / 0)
    app = create_app([Served("look-up", LookUp())])
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/v1/solve", json={"puzzles": [PUZZLE]})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"


def test_a_request_that_comes_too_slowly_is_given_up(address: str):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /v1/solve HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert b" 408 " in connection.recv(1000)


@SCHEMA.parametrize()
def test_answers_are_as_described(case: schemathesis.Case):
    # That a text is a puzzle, no schema can say
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_without_the_server_s_packages_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ValueError, match=r"pip install 'ostinato\[web\]'"):
        create_app([Served("look-up", LookUp())])


def test_two_models_of_a_kind_are_refused():
    with pytest.raises(ValueError, match="at most one model that solves puzzles"):
        Serve(("sudoku9", "sudoku9")).run()


def test_a_port_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="give a number from 0 to 65535"):
        Serve((), port=99_999).run()


def test_a_model_is_named_by_its_folder_or_file(tmp_path: Path):
    (tmp_path / "my.run").mkdir()
    assert name_of(tmp_path / "my.run") == "my.run"
    assert name_of(tmp_path / "model.onnx") == "model"


@pytest.mark.parametrize(("code", "error"), [(1, ValueError), (128 + 15, SystemExit)])
def test_an_address_in_use_is_told_from_a_signal(
    code: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
):
    def run(*_: object, **__: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(uvicorn, "run", run)
    with pytest.raises(error):
        Serve(()).listen(None)


def test_the_schema_has_the_version_of_the_package():
    assert SCHEMA.raw_schema["info"] == {"title": "Ostinato", "version": version("ostinato")}
