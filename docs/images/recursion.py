"""Draw recursion.svg: a Sudoku, and a model's whole answer to it after each of its H-cycles.

    python docs/images/recursion.py                     # draw the recorded trace, recursion.json
    python docs/images/recursion.py --record PUZZLE     # solve a puzzle, record and draw that

Recording needs Ostinato and its model `sudoku9-large`; drawing needs neither.
"""

import argparse
import json
from pathlib import Path

MODEL = "sudoku9-large"
TRACE = Path(__file__).with_suffix(".json")
PICTURE = Path(__file__).with_suffix(".svg")
MAX_STEPS = 2

CELL = 17
SIDE = 9 * CELL
STRIDE = SIDE + 40  # from board to board: the sign for a pass of f stands between
INK, ACCENT = "#747c88", "#d05a2a"  # both read well on white and on GitHub's dark background


def record(puzzle: str) -> dict[str, object]:
    """Solve a puzzle, and return the answer after each H-cycle up to the first that is right."""
    import ostinato

    answers: list[str] = []
    (solution,) = ostinato.solve(
        ostinato.load(MODEL),
        [puzzle],
        max_steps=MAX_STEPS,
        on_step=lambda step: answers.append(
            "".join(str(token - 1) for token in step.answer[0].tolist())
        ),
    )
    if not solution.solved:
        raise SystemExit(f"{MODEL} does not solve it in {MAX_STEPS} steps: try another puzzle")
    return {"model": MODEL, "puzzle": solution.puzzle, "answers": answers}


def draw(trace: dict) -> str:
    """Return the picture of a trace: the puzzle, then every answer, with its wrong cells marked."""
    puzzle, answers = trace["puzzle"], trace["answers"]
    right = [sum(a == b for a, b in zip(answer, answers[-1], strict=True)) for answer in answers]
    captions = [
        ("puzzle", f"{sum(c.isdigit() for c in puzzle)} givens"),
        *((f"H-cycle {k}", f"{count} of 81 right") for k, count in enumerate(right, 1)),
    ]
    width = 60 + STRIDE * len(answers) + SIDE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 202" role="img" '
        f'aria-label="{description(trace, right)}">',
        STYLE,
        DEFINITIONS,
        '  <use href="#repeat" x="4" y="4"/>',
        f'  <use href="#repeat" transform="matrix(-1 0 0 1 {width - 4} 4)"/>',
    ]
    for index, (caption, answer) in enumerate(zip(captions, [puzzle, *answers], strict=True)):
        left = 30 + STRIDE * index
        if index:
            lines.append(f'  <use href="#pass" x="{left - 20}" y="80.5"/>')
        lines += [f'  <g transform="translate({left} 4)">', *board(puzzle, answer, answers[-1])]
        lines += [f'    <text class="caption" x="{SIDE / 2}" y="174">{caption[0]}</text>']
        lines += [f'    <text class="caption" x="{SIDE / 2}" y="192">{caption[1]}</text>', "  </g>"]
    return "\n".join([*lines, "</svg>", ""])


def description(trace: dict, right: list[int]) -> str:
    """Return the picture in words."""
    counts = ", ".join(map(str, right[:-1]))
    return (
        f"A 9×9 Sudoku passes {len(right)} times through the same network f, between musical "
        f"repeat signs. After each pass {trace['model']} answers with the whole board: {counts} "
        f"and then {right[-1]} of 81 cells are right."
    )


def board(puzzle: str, answer: str, solution: str) -> list[str]:
    """Return the lines of one board: the squares behind its digits, the grid, the digits."""
    squares: dict[str, str] = {}
    digits: dict[str, str] = {}
    for index, digit in enumerate(answer):
        if not digit.isdigit():
            continue
        x, y = index % 9 * CELL, index // 9 * CELL
        given, right = puzzle[index].isdigit(), digit == solution[index]
        kind = "wrong" if not right else "given" if given else "found"
        squares[kind] = squares.get(kind, "") + f"M{x} {y}h{CELL}v{CELL}h-{CELL}z"
        text = f'<text x="{x + CELL / 2}" y="{y + 12.6:.1f}">{digit}</text>'
        digits[kind] = digits.get(kind, "") + text
    return [
        *(
            f'    <path class="{kind}" d="{path}"/>'
            for kind, path in squares.items()
            if kind != "found"
        ),
        '    <use href="#board"/>',
        *(f'    <g class="{kind}">{texts}</g>' for kind, texts in digits.items()),
    ]


STYLE = f"""\
  <style>
    text {{ font: 11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle; fill: {INK} }}
    path.given {{ fill: {INK}; fill-opacity: .1 }}
    path.wrong {{ fill: {ACCENT}; fill-opacity: .16 }}
    .given text {{ font-weight: 700 }}
    .wrong text {{ fill: {ACCENT} }}
    .f {{ font: italic 600 14px Georgia, "Times New Roman", "DejaVu Serif", serif; fill: {ACCENT} }}
    .caption {{ font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif }}
  </style>"""  # noqa: E501
THIN = "".join(f"M{k * CELL} 0v{SIDE}M0 {k * CELL}h{SIDE}" for k in (1, 2, 4, 5, 7, 8))
THICK = "".join(f"M{k * CELL} 0v{SIDE}M0 {k * CELL}h{SIDE}" for k in (3, 6))
DEFINITIONS = f"""\
  <defs>
    <g id="board" fill="none" stroke="{INK}">
      <path stroke-opacity=".45" stroke-width=".6" d="{THIN}"/>
      <path stroke-width="1.2" d="{THICK}"/>
      <rect width="{SIDE}" height="{SIDE}" rx="2" stroke-width="1.8"/>
    </g>
    <g id="pass">
      <path d="M8.7 -9.7A13 13 0 1 1 -5.9 -11.6" fill="none" stroke="{ACCENT}" stroke-width="1.6" stroke-linecap="round"/>
      <path d="M0.4 -13.3L-7.2 -15.3L-5.1 -7.7z" fill="{ACCENT}"/>
      <text class="f" y="4.5">f</text>
    </g>
    <g id="repeat" fill="{INK}">
      <rect width="4.5" height="{SIDE}"/>
      <rect x="8" width="1.4" height="{SIDE}"/>
      <circle cx="15.5" cy="67" r="2.6"/>
      <circle cx="15.5" cy="86" r="2.6"/>
    </g>
  </defs>"""  # noqa: E501


def main() -> None:
    """Record a trace if a puzzle is given, and draw the recorded one."""
    parser = argparse.ArgumentParser(description="Draw recursion.svg from recursion.json.")
    parser.add_argument(
        "--record", metavar="PUZZLE", help="81 characters: solve and record it first"
    )
    puzzle = parser.parse_args().record
    if puzzle is not None:
        TRACE.write_text(json.dumps(record(puzzle), indent=2) + "\n", "utf-8")
    PICTURE.write_text(draw(json.loads(TRACE.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
