"""Run llama.cpp in this process, through the library of a package that brings it.

Only functions whose arguments have been the same for years are called. Structures of settings pass
as opaque memory; of the context's, three fields at its beginning are set, and checked.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LIBRARIES = {"xllamacpp": "xllamacpp*.so", "llama_cpp": "lib/*llama.*"}
"""Package → its shared library."""
SETTINGS_WORDS = 256
"""32-bit words that hold any of the structures of settings."""
CONTEXT, THREADS, BATCH_THREADS, KEY_TYPE, VALUE_TYPE = 0, 7, 8, 26, 27
"""Words of the context's settings."""
DEFAULTS = {CONTEXT: 512, THREADS: 4, BATCH_THREADS: 4, KEY_TYPE: 1, VALUE_TYPE: 1}


class Settings(ctypes.Structure):
    """Hold the settings of a model or a context."""

    _fields_ = [("words", ctypes.c_uint32 * SETTINGS_WORDS)]


class TokenBatch(ctypes.Structure):
    """Hold `llama_batch`, which `llama_batch_get_one` makes."""

    _fields_ = [
        ("count", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "out")
        ),
    ]


def library() -> ctypes.CDLL:
    """Load llama.cpp; ValueError if no package has it."""
    for package, pattern in LIBRARIES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            for path in sorted(Path(spec.origin).parent.glob(pattern)):
                return typed(ctypes.CDLL(str(path)))
    raise ValueError("llama.cpp needs a package: pip install xllamacpp")


def typed(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions that are used."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    for name, result, *arguments in (
        ("llama_model_default_params", Settings),
        ("llama_context_default_params", Settings),
        ("llama_model_load_from_file", pointer, ctypes.c_char_p, Settings),
        ("llama_init_from_model", pointer, pointer, Settings),
        ("llama_batch_get_one", TokenBatch, pointer, integer),
        ("llama_decode", integer, pointer, TokenBatch),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), pointer),
        ("llama_get_memory", pointer, pointer),
        ("llama_memory_clear", None, pointer, ctypes.c_bool),
        ("llama_log_set", None, pointer, pointer),
        ("llama_free", None, pointer),
        ("llama_model_free", None, pointer),
        ("llama_backend_init", None),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def be_quiet(level: int, text: bytes, data: int | None) -> None:
    """Drop a line of llama.cpp's log."""


class LlamaCpp:
    """Read one text with llama.cpp."""

    def __init__(self, path: Path, vocab_size: int, context: int, threads: int, f32: bool = False):
        """Load an exported file; `f32` keeps keys and values in fp32, not in fp16.

        Raises ValueError if llama.cpp is not installed, is too different, or refuses the file.
        """
        self.library, self.vocab_size = library(), vocab_size
        self.library.llama_log_set(be_quiet, None)
        self.library.llama_backend_init()
        settings = self.library.llama_context_default_params()
        if any(settings.words[place] != value for place, value in DEFAULTS.items()):
            raise ValueError("this version of llama.cpp has other settings: use xllamacpp 2026.10")
        settings.words[CONTEXT] = context
        settings.words[THREADS] = settings.words[BATCH_THREADS] = threads
        if f32:
            settings.words[KEY_TYPE] = settings.words[VALUE_TYPE] = 0
        model_settings = self.library.llama_model_default_params()
        self.model = self.library.llama_model_load_from_file(bytes(path), model_settings)
        if not self.model:
            raise ValueError(f"llama.cpp cannot read {path}")
        self.context = self.library.llama_init_from_model(self.model, settings)
        assert self.context

    def clear(self) -> None:
        """Forget the text."""
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)

    def read(self, tokens: Sequence[int]) -> np.ndarray:
        """Append tokens to the text; return the logits of the next one, which are overwritten by
        the next call."""
        numbers = (ctypes.c_int32 * len(tokens))(*tokens)
        batch = self.library.llama_batch_get_one(ctypes.addressof(numbers), len(tokens))
        if self.library.llama_decode(self.context, batch):
            raise ValueError(f"llama.cpp has no room for {len(tokens)} more tokens")
        logits = self.library.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (self.vocab_size,))

    def close(self) -> None:
        """Free the memory."""
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)
