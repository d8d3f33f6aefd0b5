"""Wrong implementations: single changes to the source, by the topic whose rows notice them."""

from importlib import import_module

from ostinato.verify.rows import TOPICS

FILES = [topic.__name__.rpartition(".")[-1] for topic in TOPICS]
MUTANTS = [mutant for name in FILES for mutant in import_module(f"{__name__}.{name}").MUTANTS]
