"""`ostinato data FILE`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from ostinato.data.table import Table
    from ostinato.data.table.survey import Survey

SYMBOLS_SHOWN = 40


@dataclass(frozen=True)
class Data:
    """Show what is found in a table of puzzles, before you train on it.

    The flags are those of `ostinato train table`, which also takes what this command prints.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER")]
    """A table (.csv, .tsv, .jsonl or .parquet), or a folder with train, validation and test; or a
    data set that has been built."""
    symmetries: str = ""
    """Changes that keep a puzzle equivalent, such as square,tokens:1-9."""
    separator: str = "auto"
    """Separator of two symbols: "none", "space", "comma" or any other text."""
    question_column: str = ""
    """Column of the questions, if it has another name."""
    answer_column: str = ""
    """Column of the answers."""
    width: int = 0
    """Cells in a row of the board, where puzzles are written on one line; 0: found."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def run(self) -> int:
        from ostinato.data.table import TableData

        if any(self.source.glob("*/dataset.json")):
            return self.show(stored_facts(self.source), [])
        data = TableData(
            str(self.source),
            symmetries=self.symmetries,
            separator=self.separator,
            question_column=self.question_column,
            answer_column=self.answer_column,
            width=self.width,
        )
        task = data.task
        return self.show(table_facts(task, data.found), [*drawn(task, data.found)])

    def show(self, facts: dict[str, Any], boards: list[tuple[str, str]]) -> int:
        """Print what was found, and a few examples."""
        if self.json:
            print(json.dumps(facts, ensure_ascii=False))
            return 0
        from rich.console import Console

        from ostinato.cli.tables import table

        screen = Console(highlight=False, markup=False, soft_wrap=True)
        screen.print(table(("", ""), [(name, in_words(value)) for name, value in facts.items()]))
        for question, answer in boards:
            screen.print(question, "→", answer, "", sep="\n")
        return 0


def table_facts(task: "Table", found: "Survey") -> dict[str, Any]:
    """List what was found in a table."""
    from ostinato.data.table.survey import in_order

    return {
        "rows": found.rows,
        "written as": found.layout.describe(),
        "symbols": list(task.known_symbols),
        "only in questions": in_order(found.question_symbols - found.answer_symbols),
        "only in answers": in_order(found.answer_symbols - found.question_symbols),
        "blanks": list(task.blanks),
        "question sizes": sizes(found.question_sizes),
        "answer sizes": sizes(found.answer_sizes),
        "canvas": f"{task.rows}×{task.cols}",
        "symmetries": task.spec,
        "duplicates": found.duplicates,
    }


def sizes(counted: dict[tuple[int, int], int]) -> dict[str, int]:
    """Return the most frequent sizes with their numbers of rows."""
    common = sorted(counted.items(), key=lambda item: -item[1])
    return {f"{rows}×{cols}": count for (rows, cols), count in common[:SYMBOLS_SHOWN]}


def drawn(task: "Table", found: "Survey") -> list[tuple[str, str]]:
    """Draw the first examples."""
    return [
        (task.draw(task.parse(question)), task.draw(task.parse_answer(answer)))
        for question, answer in found.examples
    ]


def stored_facts(folder: Path) -> dict[str, Any]:
    """List the facts that a built data set records about itself."""
    from ostinato.data.stored import load_splits, recognise

    splits = load_splits(folder)
    metadata = splits["train"].metadata
    return {
        "examples": {split: len(puzzles) for split, puzzles in splits.items()},
        "kind": metadata.task or recognise(splits["train"]) or "not known",
        "tokens": metadata.vocab_size,
        "cells": metadata.seq_len,
        "puzzle ids": metadata.num_puzzle_identifiers,
    }


def in_words(value: object) -> str:
    """Write a value on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count:,}" for name, count in value.items())
    if isinstance(value, list):
        more = f" … {len(value) - SYMBOLS_SHOWN:,} more" if len(value) > SYMBOLS_SHOWN else ""
        return " ".join(map(str, value[:SYMBOLS_SHOWN])) + more or "none"
    return str(value) or "none"
