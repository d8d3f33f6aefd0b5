"""Keep the machine code of kernels on the disk until any kernel changes.

Numba compares a function's own file only with what it has kept. But the code of a function also
holds that of the functions it calls, from whatever file. So the names of the kept files hold a hash
of all kernels, and files of another hash are removed when new ones are written. Processes that run
before and after a change share no file.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache


def hash_of_kernels() -> str:
    """Return a hash of all files in this folder, and of the version of LLVM."""
    found = hashlib.sha256(llvmlite.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


KERNELS = hash_of_kernels()


class KernelFiles(CompileResultCacheImpl):
    """Name the files of a function; numba adds its line and the version of Python."""

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        return super().get_filename_base(f"{fullname}-{KERNELS}", abiflags)


class KernelCache(FunctionCache):
    """Keep the code of a function, and remove that of its earlier versions."""

    _impl_class = KernelFiles

    def save_overload(self, sig: Any, data: Any) -> None:
        super().save_overload(sig, data)
        function = self._impl.filename_base.partition("-")[0]
        for path in Path(self.cache_path).glob(f"{function}-*.nb[ci]"):
            if not path.name.startswith(f"{function}-{KERNELS}-"):
                with suppress(OSError):  # another process has removed it, or another user owns it
                    path.unlink()


def cached(**options: Any) -> Callable[[Callable], Any]:
    """Return a decorator: `njit` with these options, whose machine code is kept.

    Where neither this folder nor the user's cache folder can be written, it is compiled each time.
    """

    def decorate(function: Callable) -> Any:
        dispatcher: Any = njit(**options)(function)
        with suppress(RuntimeError):  # there is no place to keep it
            dispatcher._cache = KernelCache(function)
        return dispatcher

    return decorate
