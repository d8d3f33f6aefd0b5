"""The settings of a data set of conversations, its sources, and its preparation on disk."""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ostinato.data.build_once import build_once
from ostinato.data.text.dialogues import dialogues
from ostinato.data.text.template import Message, conversation_tokens
from ostinato.data.text.token_set import FACTS_FILE, token_dtype, write_split
from ostinato.data.text.tokenizer import TOKENIZER_FILE, BytePairTokenizer
from ostinato.decoding import decode_json, read_text, read_yaml
from ostinato.files import home_path, write_json
from ostinato.numbers import Count, Natural, Seed, check_numbers

BUILD = 1  # raise it whenever the same settings would give different files
MOST_HELD_OUT = 200
"""Default maximum of conversations for validation, and for test."""
Messages = tuple[Message, ...]
Split = list[tuple[str, Messages]]
"""Names and messages of conversations."""


@dataclass(frozen=True)
class Conversation:
    """Hold a line of a file of conversations."""

    messages: Messages

    def __post_init__(self):
        roles = [message.role for message in self.messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
            raise ValueError(
                "its roles must be user and assistant in turn, at most with a system message in "
                "front"
            )


@dataclass(frozen=True)
class ChatData:
    """Describe conversations, which are told to the model in the tokens it already knows."""

    conversations: str = "offline"
    """A JSONL file whose lines are {"messages": [{"role": "user", "content": "…"}, …]}; `offline`,
    small dialogues that are generated; or `chatterbot`, from the package chatterbot-corpus."""
    num_conversations: Count = 20_000
    """Number of training conversations, where they are generated."""
    too_long: Literal["cut", "refuse"] = "cut"
    """Treatment of a conversation that is longer than the model's context: cut it behind the
    last answer that fits (leave it out if none does), or refuse it."""
    num_validation: Natural = 0
    """Number of validation conversations. 0: a twentieth of all, at most 200."""
    num_test: Natural = 0
    """Number of conversations for the final score. 0: a twentieth of all, at most 200."""
    data_seed: Seed = 0
    """Seed for drawing, or for choosing and ordering the conversations."""

    def __post_init__(self):
        check_numbers(self)

    def prepare(
        self,
        root: Path,
        report: Callable[[str], None],
        tokenizer: BytePairTokenizer | None = None,
        length: int = 0,
    ) -> Path:
        """Build the data set below `root`, in the format of `TokenSet`; return its folder.

        Conversations have at most `length` + 1 tokens. Raises ValueError for a missing or faulty
        source, without a tokenizer, and for a conversation that is too long.
        """
        if tokenizer is None:
            raise ValueError(
                "conversations are for a model that knows the language: give one with --init-from "
                "RUN, such as the run of ostinato train nanochat-tiny"
            )
        splits = self._splits()
        facts = {
            **asdict(self),
            "conversations": Path(self.conversations).name,
            "length": length,
            "tokenizer_sha256": hashlib.sha256(tokenizer.to_json().encode()).hexdigest(),
            "documents_sha256": _digest(splits),
            "build": BUILD,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"chat-{Path(self.conversations).stem}-{digest[:12]}"

        def build(place: Path) -> None:
            tokenizer.save(place / TOKENIZER_FILE)
            written = {
                split: self._write(place, split, tokenizer, found, length, report)
                for split, found in splits.items()
            }
            content = {
                **facts,
                "conversations": True,
                "vocab_size": tokenizer.vocab_size,
                "dtype": token_dtype(tokenizer.vocab_size).str,
                "splits": written,
            }
            write_json(place / FACTS_FILE, content)

        return build_once(folder, build, report)

    def _splits(self) -> dict[str, Split]:
        """Return the conversations of each split. Raises ValueError if there are too few."""
        if self.conversations == "offline":
            return self._drawn()
        found = (
            read_chatterbot()
            if self.conversations == "chatterbot"
            else read_conversations(home_path(self.conversations))
        )
        usual = min(MOST_HELD_OUT, max(1, len(found) // 20))
        num_validation, num_test = self.num_validation or usual, self.num_test or usual
        if len(found) <= num_validation + num_test:
            raise ValueError(
                f"{self.conversations} has too few conversations, {len(found)}, to hold out "
                f"{num_validation} for validation and {num_test} for test: give more"
            )
        order = np.random.default_rng(self.data_seed).permutation(len(found))
        parts = np.split(order, np.cumsum([num_test, num_validation]))
        return {
            split: [found[number] for number in part.tolist()]
            for split, part in zip(("test", "validation", "train"), parts, strict=True)
        }

    def _drawn(self) -> dict[str, Split]:
        """Draw dialogues; those of validation and test ask in ways that training does not have."""
        num_validation = self.num_validation or MOST_HELD_OUT
        num_test = self.num_test or MOST_HELD_OUT
        unseen = dialogues(self.data_seed, held_out=True)
        sources = {
            "train": islice(dialogues(self.data_seed, held_out=False), self.num_conversations),
            "validation": islice(unseen, num_validation),
            "test": islice(unseen, num_test),
        }
        return {
            split: [(f"{split}:{n}", messages) for n, messages in enumerate(source)]
            for split, source in sources.items()
        }

    def _write(
        self,
        folder: Path,
        split: str,
        tokenizer: BytePairTokenizer,
        found: Split,
        length: int,
        report: Callable[[str], None],
    ) -> dict[str, Any]:
        """Write a split; return its entry for `text.json`."""
        kept, num_cut = [], 0
        for name, messages in found:
            whole = conversation_tokens(tokenizer, messages)
            if len(whole) > length + 1 and self.too_long == "refuse":
                raise ValueError(
                    f"{name} has {len(whole)} tokens, the model reads {length}: shorten that "
                    "conversation, or set too_long to cut"
                )
            tokens = whole
            while len(tokens) > length + 1 and len(messages) > 1:
                messages = messages[:-2]
                tokens = conversation_tokens(tokenizer, messages)
            if len(messages) > 1:
                num_cut += tokens is not whole
                kept.append((name, tokens, sum(len(m.content.encode()) for m in messages)))
        if not kept:
            raise ValueError(f"no {split} conversation fits in {length} tokens: give shorter ones")
        names, tokens, sizes = zip(*kept, strict=True)
        facts = write_split(
            folder, split, tokenizer, (part[1:] for part in tokens), names, sum(sizes)
        )
        left_out = len(found) - len(kept)
        too_long = f"; too long: {num_cut:,} cut, {left_out:,} left out"
        report(
            f"{split}: {len(kept):,} conversations, {facts['tokens']:,} tokens"
            + (too_long if num_cut or left_out else "")
        )
        return facts


def read_conversations(path: Path) -> Split:
    """Read a JSONL file. Raises ValueError, naming the line, if one is no conversation."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        name = f"{path}, line {number}"
        if line.strip():
            found.append((name, decode_json(line, Conversation, name).messages))
    return found


def read_chatterbot() -> Split:
    """Read the English questions and answers of the package chatterbot-corpus."""
    found = importlib.util.find_spec("chatterbot_corpus")
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            "the conversations chatterbot need a package: pip install 'ostinato[text]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "data" / "english"
    conversations = []
    for path in sorted(folder.glob("*.yml")):
        for number, texts in enumerate(read_yaml(path).get("conversations", [])):
            question, answer = (str(text).strip() for text in texts[:2])
            messages = Message("user", question), Message("assistant", answer)
            conversations.append((f"{path.name}:{number}", messages))
    return conversations


def _digest(splits: dict[str, Split]) -> str:
    """Return the SHA-256 of all messages."""
    digest = hashlib.sha256()
    for found in splits.values():
        for _, messages in found:
            digest.update(json.dumps([[m.role, m.content] for m in messages]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def to_line(messages: Sequence[Message]) -> str:
    """Return a conversation as a line of a JSONL file."""
    return json.dumps({"messages": [asdict(m) for m in messages]}, ensure_ascii=False) + "\n"
