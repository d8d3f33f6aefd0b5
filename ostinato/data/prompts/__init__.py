"""Prompts whose completions a program can judge: mazes, arithmetic, reasoning-gym, code."""

from ostinato.data.prompts.dataset import PromptData, PromptSet
from ostinato.data.prompts.task import Prompt, PromptTask

__all__ = ["Prompt", "PromptData", "PromptSet", "PromptTask"]
