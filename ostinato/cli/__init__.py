"""Run the command line: each verb has its own module, which is imported when it is used.

A verb's module has a frozen dataclass whose fields are its arguments, whose docstring is its help
and whose `run` does the work and returns the exit code: 0, or 1 where the verb says so. A user's
mistake is a ValueError with the remedy: it becomes one line on standard error and exit code 2.
"""

import sys
from collections.abc import Callable
from importlib import import_module

from ostinato.cli.process import (
    discard_output,
    ended_by_sigterm,
    fail,
    in_one_line,
    let_threads_rest,
    prepare_streams,
    short_notices,
)

VERBS = {
    "train": "train a recipe, or resume an interrupted run",
    "eval": "measure a trained model on puzzles it has not seen",
    "solve": "solve puzzles, and watch the model think",
    "generate": "continue a text with a trained language model",
    "chat": "talk with a trained language model",
    "inspect": "show the streams and the ternary weights of a language model",
    "plot": "draw the curves of a run",
    "export": "write a trained model in another format",
    "serve": "serve models: a page for each, and an API",
    "verify": "compare this implementation with the originals' numbers",
    "bench": "measure the speed of training, solving or generating",
    "doctor": "try every device and dtype, and list the versions in use",
    "data": "show what is found in a table of puzzles",
    "recipes": "list the recipes",
    "models": "list the models with their sizes and what memory they need",
}
"""Verb → what it does. The class `Verb` in `ostinato.cli.verb` holds the code."""

HOMES = {"doctor": "lists", "recipes": "lists", "models": "lists"}
"""Verb → module, where it shares one with another verb."""

Command = Callable[[], int]


def parse(argv: list[str]) -> Command:
    """Parse a command line; call the result to run it and get its exit code.

    Raises SystemExit: 2 after a one-line error for an unknown word, 0 after help.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        raise SystemExit(0)
    verb, *words = argv
    if verb == "--version":
        from importlib.metadata import version

        print(version("ostinato"))
        raise SystemExit(0)
    try:
        if verb not in VERBS:
            from ostinato.cli.arguments import suggestion

            raise ValueError(f"unknown verb {verb!r}{suggestion(verb, VERBS)}")
        module = import_module(f"ostinato.cli.{HOMES.get(verb, verb)}")
        if hasattr(module, "parse"):  # this verb needs more than a dataclass
            return module.parse(words)
        from ostinato.cli.arguments import read

        return read(getattr(module, verb.capitalize()), words, verb).run
    except ValueError as error:
        raise fail(str(error)) from error


def main(argv: list[str] | None = None) -> int:
    """Run a command line; return the exit code."""
    try:
        with ended_by_sigterm(), short_notices():
            prepare_streams()
            let_threads_rest()
            try:
                code = parse(sys.argv[1:] if argv is None else argv)()
            except SystemExit:  # after help
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        discard_output()
        return 1
    except Exception as error:
        if (fault := in_one_line(error)) is None:
            raise
        raise fail(fault) from error


def overview() -> str:
    """Return the help that lists the verbs."""
    lines = [f"  {verb:<9} {purpose}" for verb, purpose in VERBS.items()]
    return "\n".join(
        [
            "usage: ostinato VERB …",
            "",
            "Small models that think by repeating themselves.",
            "",
            *lines,
            "",
            "`ostinato VERB --help` explains a verb.",
        ]
    )
