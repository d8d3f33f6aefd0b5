"""Wrong implementations: single changes to the source, by the topic whose rows notice them."""

from tests.verify.mutants import (
    data,
    halting,
    language,
    layers,
    loops,
    losses,
    optimizers,
    recursion,
    rewards,
    training,
)

TOPICS = (
    layers,
    recursion,
    halting,
    losses,
    training,
    optimizers,
    data,
    language,
    loops,
    rewards,
)
MUTANTS = [mutant for topic in TOPICS for mutant in topic.MUTANTS]
