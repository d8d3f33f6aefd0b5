"""The page in a real browser: it computes what PyTorch does, and can be used by keys alone."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ostinato
from ostinato.data.boards import board_of
from ostinato.data.maze import Maze
from ostinato.data.table import Table
from ostinato.inference.think import take_step
from ostinato.web.site import PAGE, PAGE_FILES, VIEWS, views_of, write_site
from tests.web.browser import CHROMIUM, opened, served
from tests.web.tiny import MAKES, tiny

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.compile,  # torch.export cannot trace the shape checks
    pytest.mark.timeout(600),
]
EASY = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
RUN = """
async ([tokens, id, passes]) => {
  const {load, widened} = await import("./tensors.js");
  const model = await (await fetch("model.json")).json();
  const stored = await (await fetch("weights.bin")).arrayBuffer();
  const {numbers, integers, run} = await load(model.program, widened(stored, model.segments));
  const {inputs, outputs: {logits, q}} = model.program;
  integers.set(tokens, inputs.tokens);
  integers[inputs.puzzle_ids] = id;
  for (const z of ["z_H", "z_L"]) {
    for (let i = 0; i < model.length; i++) numbers.set(model[z], inputs[z] + i * model[z].length);
  }
  const found = [];
  for (let pass = 0; pass < passes; pass++) {
    run();
    found.push([numbers[q.at], ...tokens.flatMap((_, cell) => model.symbols.map(
      (_, token) => numbers[logits.at + cell * logits.strides[1] + token * logits.strides[2]]))]);
  }
  return found;
}
"""


def answered(page: Any) -> str:
    """Return the page's words at the end of thinking."""
    page.wait_for_selector("#think:text-is('Think')")
    return page.inner_text("#verdict")


def test_page_is_short():
    lines = sum(len((PAGE / name).read_text("utf-8").splitlines()) for name in PAGE_FILES)
    assert lines < 700


def test_what_the_page_cannot_run_is_refused(tmp_path: Path):
    noisy = tiny("trm-mlp")
    noisy.config = replace(noisy.config, noise=0.1)
    with pytest.raises(ValueError, match="no random starts, damping or noise"):
        write_site(noisy, tmp_path, "noisy")
    numbers = tiny("tokens")
    table = Table(("7", "8", "9", "10"), 3, 3)
    numbers.config = replace(numbers.config, task=table.name)
    with pytest.raises(ValueError, match="one character a symbol"):
        write_site(numbers, tmp_path, "numbers")
    assert views_of(table.name) == []
    assert len(views_of("sudoku4")) == VIEWS


@pytest.mark.parametrize("make", MAKES)
def test_page_computes_what_pytorch_computes(make: str, tmp_path: Path):
    model = tiny(make)
    config = model.config
    tokens = torch.randint(config.vocab_size, (1, config.seq_len), generator=torch.manual_seed(1))
    ids = torch.tensor([config.num_puzzle_identifiers - 1])
    write_site(model, tmp_path, make)
    with served(tmp_path) as (address, _), opened(address) as page:
        found = page.evaluate(RUN, [tokens[0].tolist(), int(ids), 5])
    state = model.initial_state(1)
    for numbers in found:
        step = take_step(model, state, tokens, ids, 0.0, H_cycles=1)
        state = step.state
        expected = torch.cat([step.q_halt, step.output.logits.flatten()])
        torch.testing.assert_close(torch.tensor(numbers), expected, atol=1e-4, rtol=1e-4)


def test_a_puzzle_typed_by_keys_is_solved_even_after_the_server_has_gone(tmp_path: Path):
    write_site(ostinato.load("sudoku9"), tmp_path / "deep/inside", "sudoku9")
    with served(tmp_path) as (address, server), opened(f"{address}deep/inside/") as page:
        assert page.locator("[role=gridcell].given").count() >= 36
        server.shutdown()
        server.server_close()
        page.click("#clear")
        page.locator("[role=gridcell]").first.focus()
        for row in range(9):
            for symbol in EASY[9 * row : 9 * row + 9]:
                page.keyboard.press(symbol if symbol != "." else "Delete")
                page.keyboard.press("ArrowRight")
        assert page.input_value("#text") == EASY
        page.keyboard.press("Enter")
        assert "halts" in (verdict := answered(page)) and "it is solved" in verdict
        solution = next(ostinato.solve(ostinato.load("sudoku9"), [EASY])).answer
        assert "".join(page.locator("[role=gridcell]").all_inner_texts()) == solution
        label = page.locator("[role=gridcell]").nth(2).get_attribute("aria-label")
        assert label.startswith(f"row 1, column 3: {solution[2]}") and "% sure" in label
        number = page.inner_text("#which")
        page.click("#back")
        assert page.inner_text("#which") != number
        assert page.is_hidden("#again")


def test_a_model_that_errs_is_told_by_the_rules_and_may_try_again(tmp_path: Path):
    model = tiny("trm-attention")
    with torch.no_grad():
        model.q_head.bias.fill_(-50)  # never sure
    write_site(model, tmp_path, "untrained")
    with (
        served(tmp_path) as (address, _),
        opened(address, viewport={"width": 390, "height": 800}) as page,
    ):
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#think")
        assert "does not halt" in (verdict := answered(page)) and "By the rules" in verdict
        assert page.locator(".wrong[role=gridcell]").count() > 0
        assert page.inner_text("#which") == "6 of 6"
        page.click("#views")
        answered(page)
        assert page.inner_text("#which") == "48 of 48, view 8"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("site")
    write_site(tiny("trm-mlp"), folder, "untrained")
    with served(folder) as (address, _), opened(address) as page:
        yield page


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("123", "16 symbols"), ("x" * 16, "not a symbol"), ("11" + "." * 14, "cannot be solved")],
)
def test_what_is_no_puzzle_is_refused(text: str, complaint: str, page: Any):
    page.fill("#text", text)
    page.keyboard.press("Enter")
    assert complaint in page.inner_text("#verdict")
    assert page.inner_text("#think") == "Think"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Soo#.##o#...o#...oo#...oG", None),
        ("S.o#.##o#...o#...oo#...oG", "row 1, column 3 is marked but not on the path"),
        ("Soo#.##o#...o#...oo#....G", "the path does not reach G"),
        ("Soo#.##o#..oo#..ooo#...oG", "the path forks"),
        ("Soo#.##o##..o#...oo#...oG", "what was given in row 2, column 5 was changed"),
    ],
)
def test_rules_of_mazes_are_those_of_the_package(answer: str, problem: str | None, page: Any):
    maze = Maze(5)
    puzzle = maze.parse("S..#.##.#....#.....#....G")
    tokens = np.array(["?#.SGo".index(symbol) for symbol in answer])
    judged = page.evaluate(
        "async (args) => (await import('./rules.js')).judge(...args)",
        [asdict(board_of("maze5", 25, 6)), puzzle.tolist(), tokens.tolist()],
    )
    assert judged["problem"] == problem
    assert (maze.check(puzzle, tokens) is None) == (problem is None)
