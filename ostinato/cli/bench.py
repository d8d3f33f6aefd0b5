"""`ostinato bench KIND`."""

from importlib import import_module

from ostinato.cli import Command
from ostinato.cli.arguments import suggestion

KINDS = {
    "train": "training of a recipe",
    "solve": "a trained model on puzzles",
    "generate": "writing, token by token, by a preset of nanochat",
}
"""Kind → what is measured. `ostinato.cli.bench_KIND` holds the code."""


def parse(words: list[str]) -> Command:
    """What the words behind `bench` ask for."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: ostinato bench KIND …\n\nMeasure the speed of\n")
        print("\n".join(f"  {kind:<9} {what}" for kind, what in KINDS.items()))
        print("\n`ostinato bench KIND --help` explains one.")
        raise SystemExit(0 if words else 2)
    kind, *words = words
    if kind not in KINDS:
        raise ValueError(f"there is no bench {kind!r}{suggestion(kind, KINDS)}")
    return import_module(f"ostinato.cli.bench_{kind}").parse(words)
