"""Every test has one thread, no network, and repeatable examples; shapes are checked or not."""

import ast
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import hypothesis
import jaxtyping
import pytest
from jaxtyping._import_hook import JaxtypingTransformer

# Read by torch when it is first imported, and inherited by the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# As from a terminal: under nohup, what tests start would ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)

shared = {"deadline": None, "database": None}
hypothesis.settings.register_profile("ostinato", derandomize=True, **shared)
hypothesis.settings.register_profile("fuzz", max_examples=20_000, print_blob=True, **shared)
hypothesis.settings.load_profile("ostinato")

LONGEST = ("test_documented_commands.py", "test_tour.py", "test_onnx.py")
"""Files that take minutes: they come first, so that no process is left alone with one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the front."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


check_function = JaxtypingTransformer.visit_FunctionDef


def check_outer_function(self: JaxtypingTransformer, node: ast.FunctionDef) -> ast.AST:
    """Add shape checks to a function, unless it is within another.

    There they would be compiled at every call of the other one, which takes milliseconds.
    """
    if any(isinstance(parent, ast.FunctionDef) for parent in self._parents):
        return node
    return check_function(self, node)


JaxtypingTransformer.visit_FunctionDef = check_outer_function


CHECKED_CALLS = 50
"""Calls of a function whose shapes are checked in each test: a check takes longer than most steps
of a small model."""

calls: Counter[Callable[..., Any]] = Counter()
check_every_call = jaxtyping.jaxtyped


def check_first_calls(**settings: Any) -> Callable[[Any], Any]:
    """Decorate a function so that its shapes are checked in the first calls of a test."""

    def decorate(function: Any) -> Any:
        checked = check_every_call(**settings)(function)
        if isinstance(function, type):
            return checked

        @wraps(checked)
        def call(*args: Any, **kwargs: Any) -> Any:
            if jaxtyping.config.jaxtyping_disable:
                return function(*args, **kwargs)
            calls[function] += 1
            here = checked if calls[function] <= CHECKED_CALLS else function
            return here(*args, **kwargs)

        return call

    return decorate


jaxtyping.jaxtyped = check_first_calls


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Switch the shape checks off around a test marked `compile`, its fixtures included."""
    calls.clear()
    checks_are_off = jaxtyping.config.jaxtyping_disable
    if item.get_closest_marker("compile"):
        jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", checks_are_off)
