"""Fields of requests: which are taken, and that an error names the one that is wrong."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openai.types import completion_create_params as text_fields
from openai.types.chat import completion_create_params as chat_fields

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


TAKEN = {
    *("model", "n", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "user"),
    *("max_tokens", "logprobs"),
}
TAKEN_OF_A_TEXT = TAKEN | {"prompt", "echo"}
TAKEN_OF_A_CHAT = TAKEN | {
    *("messages", "max_completion_tokens", "top_logprobs"),
    *("metadata", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"),
}
FUNCTION = {"name": "add", "parameters": {"type": "object", "properties": {}}}
ASKS = {
    "best_of": 2,
    "frequency_penalty": 0.5,
    "function_call": {"name": "add"},
    "functions": [FUNCTION],
    "logit_bias": {"5": 100},
    "modalities": ["text", "audio"],
    "presence_penalty": -0.5,
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
    "service_tier": "flex",
    "store": True,
    "suffix": "two",
    "tool_choice": "required",
    "tools": [{"type": "function", "function": FUNCTION}],
    "verbosity": "high",
}
"""Values that ask for what the server does not do."""


def without_effect() -> list[tuple[str, str]]:
    """Every field that OpenAI's client knows and the server does nothing with."""
    text = text_fields.CompletionCreateParamsNonStreaming.__annotations__.keys()
    chat = chat_fields.CompletionCreateParamsNonStreaming.__annotations__.keys()
    fields = [(TEXT, field) for field in sorted(text - TAKEN_OF_A_TEXT)]
    return fields + [(CHAT, field) for field in sorted(chat - TAKEN_OF_A_CHAT)]


@pytest.mark.parametrize(("path", "field"), without_effect())
def test_a_field_without_effect_is_refused_by_name(path: str, field: str, client: TestClient):
    found = answer(client, path, {field: ASKS.get(field, {"x": 1})})
    assert found["status"] == 422
    message, param = found["error"]["message"], found["error"]["param"]
    assert message.startswith(f"{param}: ") and "leave it out" in message
    assert param == ("response_format.type" if field == "response_format" else field)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (TEXT, {"frequency_penalty": 0, "presence_penalty": 0.0}),
        (TEXT, {"logit_bias": {}}),
        (TEXT, {"logit_bias": {"5": 0}}),
        (TEXT, {"logprobs": False}),
        (TEXT, {"best_of": 1}),
        (TEXT, {"n": 2, "best_of": 2}),
        (TEXT, {"suffix": "", "echo": False, "stop": []}),
        (TEXT, {"stream_options": {"include_usage": False}}),
        (CHAT, {"frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}}),
        (CHAT, {"logprobs": False, "top_logprobs": 0, "n": 1}),
        (CHAT, {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}),
        (CHAT, {"functions": [], "function_call": "none", "tool_choice": "none"}),
        (CHAT, {"response_format": {"type": "text"}, "modalities": ["text"]}),
        (CHAT, {"reasoning_effort": "none", "verbosity": "medium", "service_tier": "auto"}),
        (CHAT, {"store": False, "metadata": {"chat": "7"}, "user": "me"}),
        (CHAT, {"safety_identifier": "me", "prompt_cache_key": "7", "service_tier": "default"}),
        (CHAT, {"stream_options": {}}),
    ],
)
def test_values_that_ask_for_nothing_change_nothing(path: str, body: dict, client: TestClient):
    seed = {"seed": 7, "n": body.get("n", 1)}
    expected = answer(client, path, seed)["choices"]
    assert len(expected) == seed["n"] and expected[0]["logprobs"] is None
    assert answer(client, path, seed | body)["choices"] == expected


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (TEXT, {"n": 2, "best_of": 1}, "best_of"),
        (TEXT, {"logprobs": True}, "logprobs"),
        (TEXT, {"logprobs": 0.0}, "logprobs"),
        (CHAT, {"store": 0}, "store"),
        (TEXT, {"logit_bias": {"5": 0, "6": 1}}, "logit_bias"),
        (TEXT, {"frequency_penalty": False}, "frequency_penalty"),
        (CHAT, {"messages": [USER | {"tool_calls": [{}]}]}, "messages[0].tool_calls"),
        (CHAT, {"tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
        (
            CHAT,
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
    ],
)
def test_values_that_ask_for_something_are_refused(
    path: str, body: dict, field: str, client: TestClient
):
    found = answer(client, path, body)
    assert (found["status"], found["error"]["param"]) == (422, field)


def test_no_logprobs_are_not_those_of_no_alternatives(client: TestClient):
    found = answer(client, TEXT, {"temperature": 0, "logprobs": 0})["choices"][0]["logprobs"]
    assert len(found["tokens"]) == 16 and not any(found["top_logprobs"])


CLIENTS = {
    "open-webui": {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.8,
        "max_tokens": 4,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logit_bias": {},
        "stop": [],
        "user": "me",
    },
    "langchain": {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.8,
        "top_p": 1,
        "n": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "max_completion_tokens": 4,
        "parallel_tool_calls": False,
        "response_format": {"type": "text"},
    },
    "librechat": {
        "stream": True,
        "temperature": 0.8,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "max_tokens": 4,
        "user": "65a",
        "messages": [USER, {"role": "assistant", "content": "two", "tool_calls": []}, USER],
    },
}
"""Requests as popular clients send them."""


@pytest.mark.parametrize("name", CLIENTS)
def test_popular_clients_are_answered(name: str, client: TestClient):
    body = {"model": "tiny", "messages": [USER]} | CLIENTS[name]
    with client.stream("POST", CHAT, json=body) as response:
        assert response.status_code == 200, response.read()
        blocks = response.read().decode().strip().split("\n\n")
    assert blocks[-1] == "data: [DONE]"
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]
    assert ("usage" in chunks[-1]) == ("stream_options" in body)
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"]][-1] in (
        "length",
        "stop",
    )
