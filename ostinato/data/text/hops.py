"""Draw modular arithmetic in prefix notation: a task that needs one hop more for each operator.

    +*3a-b2=g        (3·10) + (11 - 2) = 16 mod 23, written g: numbers have one digit in base 36

Source: the task Mano of *Physics of Language Models*, part 4.1, that Ouro (arXiv 2510.25741) uses.
The values in between are not written, so a model has to work them out on its way to the answer.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import torch
from jaxtyping import Int64
from torch import Tensor

from ostinato.data.build_once import build_once
from ostinato.data.text.corpora import Corpus
from ostinato.data.text.dataset import TextData
from ostinato.data.text.token_set import IGNORE_LABEL, TokenSet, Windows
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.numbers import Count, Natural, Range

BUILD = 1  # raise it whenever the same settings would give different files
OPERATORS = "+-*"
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
ANSWER = "="
"""Sign in front of the answer."""
HELD_OUT = 10
"""One in so many expressions is kept from training, by a hash of its text. Those with a single
operator are not: they are the tables that the others are worked out with."""
PATIENCE = 1000


@dataclass(frozen=True)
class HopData(TextData):
    """Describe random expressions, one a document, their number of operators evenly drawn.

    No expression of validation or test occurs in training, those with one operator aside. Test has
    expressions with more operators than training.
    """

    corpus: str = "expressions"
    """Source of the documents: `expressions` draws them."""
    num_tokens: Natural = 257
    num_validation: Natural = 1000
    num_test: Natural = 2000
    num_train: Count = 200_000
    """Number of training documents."""
    turn_tokens: bool = False
    modulus: Annotated[int, Range(2, len(DIGITS))] = 23
    """Number that values are taken modulo, 23 in the paper; their digits are letters above 9."""
    operators: Count = 4
    """Most operators of an expression in training and validation."""
    test_operators: Natural = 8
    """Most operators of an expression in test. 0: as in training."""

    def __post_init__(self):
        super().__post_init__()
        if self.corpus != "expressions":
            raise ValueError(
                f"this recipe draws its texts: leave out corpus {self.corpus!r}, or train "
                "nanochat-tiny on it"
            )
        if not (self.num_validation and self.num_test):
            raise ValueError("set num_validation and num_test to at least 1")

    def prepare(
        self,
        root: Path,
        report: Callable[[str], None],
        tokenizer: BytePairTokenizer | None = None,
        length: int = 0,
    ) -> Path:
        """Build the data set below `root`, as `TextData.prepare` does."""
        facts = {**asdict(self), "scored_behind": ANSWER, "build": BUILD}
        if tokenizer is not None:
            facts["tokenizer"] = tokenizer.to_json()
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"text-expressions-{digest[:12]}"

        def build(place: Path) -> None:
            self._build(place, Corpus([], []), facts, tokenizer, report)

        return build_once(folder, build, report)

    def _split(
        self, corpus: Corpus, num_validation: int, num_test: int
    ) -> dict[str, tuple[list[str], list[str]]]:
        """Draw the texts of every split, and return them with their names."""
        rng, splits = Random(self.data_seed), {}
        for split, count, most in (
            ("test", num_test, self.test_operators or self.operators),
            ("validation", num_validation, self.operators),
            ("train", self.num_train, self.operators),
        ):
            texts = [
                self.document(1 + number % most, split != "train", rng) for number in range(count)
            ]
            splits[split] = texts, [str(number) for number in range(count)]
        return {split: splits[split] for split in ("train", "validation", "test")}

    def document(self, operators: int, held_out: bool, rng: Random) -> str:
        """Draw an expression with its answer, of those that are held out or of the others."""
        for _ in range(PATIENCE):
            text, value = self.expression(operators, rng)
            if operators == 1 or (zlib.crc32(text.encode()) % HELD_OUT == 0) == held_out:
                return f"{text}{ANSWER}{DIGITS[value]}"
        raise ValueError(f"modulus {self.modulus} has too few expressions: give a larger one")

    def expression(self, operators: int, rng: Random) -> tuple[str, int]:
        """Draw a tree with so many operators; return its text and its value."""
        if not operators:
            value = rng.randrange(self.modulus)
            return DIGITS[value], value
        sign = rng.choice(OPERATORS)
        left = rng.randrange(operators)
        one, a = self.expression(left, rng)
        other, b = self.expression(operators - 1 - left, rng)
        value = {"+": a + b, "-": a - b, "*": a * b}[sign]
        return sign + one + other, value % self.modulus


class ExpressionSet(TokenSet):
    """Hold expressions, of which only the answers are trained on and scored."""

    @property
    def num_scored(self) -> int:
        return len(self.documents)

    @property
    def scored_bytes(self) -> int:
        return len(self.documents)  # a digit each

    def batches(self, length: int, size: int, seed: int = 0, start: int = 0) -> Iterator[Windows]:
        for windows, labels in super().batches(length, size, seed, start):
            yield windows, self.answers(windows[:, :-1], labels)

    def evaluation(
        self, length: int, context: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Windows]:
        for inputs, labels in super().evaluation(length, context, batch_size, rank, world_size):
            yield inputs, self.answers(inputs, labels)

    def answers(
        self, inputs: Int64[Tensor, "batch seq"], labels: Int64[Tensor, "batch seq"]
    ) -> Int64[Tensor, "batch seq"]:
        """Return the labels that are answers; the others are ignored."""
        (sign,) = self.tokenizer.encode(ANSWER)[1:]
        return torch.where(inputs == sign, labels, IGNORE_LABEL)
