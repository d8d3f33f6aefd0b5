"""Fields of requests: an error names the one that is wrong."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ostinato.web.limits import Limits
from ostinato.web.server import Served, create_app
from tests.inference.stand_in import LookUp
from tests.web.test_writing import language_model

LIMITS = Limits(max_body=20_000, max_texts=4, max_puzzles=3, max_steps=32)
USER = {"role": "user", "content": "one?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
TEXT, CHAT, SOLVE = "/v1/completions", "/v1/chat/completions", "/v1/solve"
PUZZLE = ".1..3..12..4..3."
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client():
    models = [Served("tiny", language_model()), Served("look-up", LookUp())]
    with TestClient(create_app(models, limits=LIMITS, hosts=["testserver"])) as client:
        yield client


def answer(client: TestClient, path: str, body: dict) -> dict:
    base = {TEXT: {"prompt": "one"}, CHAT: {"messages": [USER]}, SOLVE: {"puzzles": [PUZZLE]}}[path]
    response = client.post(path, content=json.dumps(base | body), headers=JSON)
    return response.json() | {"status": response.status_code}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (TEXT, {"temperature": "hot"}, "temperature"),
        (TEXT, {"temperature": 1e-300}, "temperature"),
        (TEXT, {"top_p": 0}, "top_p"),
        (TEXT, {"prompt": ["one", 2]}, "prompt"),
        (TEXT, {"prompt": []}, "prompt"),
        (TEXT, {"prompt": ["one"] * 5}, "prompt"),
        (TEXT, {"prompt": [10**6]}, "prompt"),
        (TEXT, {"prompt": "one " * 999}, "prompt"),
        (TEXT, {"prompt": "\ud800"}, "prompt"),
        (TEXT, {"n": 5}, "n"),
        (TEXT, {"prompt": ["one"] * 3, "n": 2}, "n"),
        (TEXT, {"model": "gpt"}, "model"),
        (TEXT, {"stop": ["a", ""]}, "stop"),
        (TEXT, {"echo": True, "logprobs": 1}, "logprobs"),
        (TEXT, {"speed": 1}, "speed"),
        (TEXT, {"": 1}, ""),
        (TEXT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (TEXT, {"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [USER | {"content": "one " * 999}]}, "messages"),
        (CHAT, {"messages": [USER, USER | {"content": [IMAGE]}]}, "messages[1].content"),
        (CHAT, {"messages": [USER | {"role": "tool"}]}, "messages[0].role"),
        (CHAT, {"messages": [USER | {"name": "me"}]}, "messages[0].name"),
        (CHAT, {"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        (CHAT, {"top_logprobs": 1}, "top_logprobs"),
        (SOLVE, {"puzzles": []}, "puzzles"),
        (SOLVE, {"puzzles": [PUZZLE] * 4}, "puzzles"),
        (SOLVE, {"puzzles": [PUZZLE, 1]}, "puzzles[1]"),
        (SOLVE, {"puzzles": [PUZZLE, PUZZLE, "1"]}, "puzzles[2]"),
        (SOLVE, {"search": "luck"}, "search"),
        (SOLVE, {"max_steps": 33}, "max_steps"),
        (SOLVE, {"speed": 1}, "speed"),
    ],
)
def test_an_error_names_the_field(path: str, body: dict, field: str, client: TestClient):
    found = answer(client, path, body)
    assert found["status"] in (400, 404, 422)
    assert found["error"]["param"] == field


def test_a_model_that_does_not_chat_is_the_fault_of_the_model():
    base = language_model()
    base.chat_template = ""
    with TestClient(create_app([Served("base", base)])) as client:
        assert answer(client, CHAT, {})["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("method", "path", "settings", "status"),
    [
        ("POST", TEXT, {"content": b"{"}, 422),
        ("POST", TEXT, {"content": b""}, 422),
        ("POST", TEXT, {"json": []}, 422),
        ("POST", TEXT, {"content": b"\xff", "headers": JSON}, 400),
        ("POST", TEXT, {"json": {"prompt": "x" * 30_000}}, 413),
        ("POST", "/v1/embeddings", {"json": {}}, 404),
        ("GET", "/health", {"headers": {"Host": "evil.example"}}, 400),
    ],
)
def test_other_errors_name_no_field(
    method: str, path: str, settings: dict[str, Any], status: int, client: TestClient
):
    response = client.request(method, path, **settings)
    assert response.status_code == status
    assert response.json()["error"]["param"] is None
