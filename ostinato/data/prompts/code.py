"""Functions of Python's library with their doctests: the prompt ends behind the docstring."""

import ast
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ostinato.data.prompts.sandbox import passes
from ostinato.data.prompts.task import Prompt, PromptTask
from ostinato.data.text.corpora import python_stdlib

END_OF_BODY = re.compile(r"\n(?=\S)")
"""Place before the first line behind a function."""
JUDGE = """
import doctest
_test = doctest.DocTestParser().get_doctest({doc!r}, globals(), {name!r}, None, 0)
assert _test.examples
assert not doctest.DocTestRunner(verbose=False).run(_test, out=lambda text: None).failed
"""


class CodeTask(PromptTask):
    """Write the body of a function so that its doctests pass, in the sandbox."""

    def __init__(self, unsafe: bool = False):
        self.unsafe = unsafe

    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        """Return functions whose own bodies pass in the sandbox."""
        corpus = python_stdlib(lambda line: None)
        found = {p.text: p for text in corpus.documents for p in functions(text)}
        prompts = list(found.values())
        whole = self.are_right([(prompt, prompt.answer) for prompt in prompts])
        return [prompt for prompt, right in zip(prompts, whole, strict=True) if right][:count]

    def ended(self, completion: str, finished: bool) -> str | None:
        body, *others = END_OF_BODY.split(completion, maxsplit=1)
        return body if others or finished else None

    def is_right(self, prompt: Prompt, completion: str) -> bool:
        return bool(completion.strip()) and passes(program(prompt, completion), unsafe=self.unsafe)

    def are_right(self, judged: list[tuple[Prompt, str]]) -> list[bool]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda pair: self.is_right(*pair), judged))


def functions(source: str) -> Iterator[Prompt]:
    """Yield the functions of a module that have doctests."""
    try:
        module = ast.parse(source)
    except SyntaxError:  # files of the library that test the parser
        return
    lines = source.splitlines(keepends=True)
    for node in module.body:
        if not isinstance(node, ast.FunctionDef) or len(node.body) < 2:
            continue
        doc = ast.get_docstring(node)
        first, last = node.body[0].end_lineno, node.end_lineno
        if doc and ">>> " in doc and first and last and node.body[1].lineno > first:
            start = min(part.lineno for part in (node, *node.decorator_list)) - 1
            yield Prompt(
                text="".join(lines[start:first]),
                answer="".join(lines[first:last]),
                facts={
                    "before": "".join(lines[:start]),
                    "behind": "".join(lines[last:]),
                    "name": node.name,
                    "doc": doc,
                },
            )


def program(prompt: Prompt, completion: str) -> str:
    """Return the module with the completed function, followed by its doctests."""
    facts = prompt.facts
    judge = JUDGE.format(doc=facts["doc"], name=facts["name"])
    return f"{facts['before']}{prompt.text}{completion}\n{facts['behind']}\n{judge}"
