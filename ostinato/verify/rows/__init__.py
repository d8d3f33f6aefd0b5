"""The rows of the fidelity report, by topic."""

from types import ModuleType

from ostinato.verify.check import Check
from ostinato.verify.rows import (
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

TOPICS: tuple[ModuleType, ...] = (
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


def checks_of(topic: ModuleType) -> list[Check]:
    """Return the checks of a topic, in the order of their definition."""
    return [value for value in vars(topic).values() if isinstance(value, Check)]
