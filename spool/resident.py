"""How much of a mapped file counts as the process's memory.

A page of a mapped file that is touched once stays in the process's resident set until the kernel is short of memory.
Nothing is lost by that, but a queue of a million messages then looks like a process of a gigabyte, to its operator and
to whatever kills processes by their size. So the mapping is handed back from time to time: the pages stay in the page
cache, and the next touch maps them again, some microseconds for a neighbourhood of sixteen.

Linux only; elsewhere `release_above` does nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from pathlib import Path
from typing import Final

_MAPS: Final = Path("/proc/self/maps")
_STATM: Final = Path("/proc/self/statm")
_DONTNEED: Final[int | None] = getattr(mmap, "MADV_DONTNEED", None)


class MappedFile:
    """A file that this process has mapped, shared. Made after it was mapped; not to be used once it is not."""

    def __init__(self, path: Path) -> None:
        self._ranges: list[tuple[int, int]] = []
        if _DONTNEED is None or not _MAPS.exists():
            return
        line = re.compile(rf"^([0-9a-f]+)-([0-9a-f]+) \S+s .* {re.escape(str(path.resolve()))}$")
        for mapping in _MAPS.read_text().splitlines():
            if found := line.match(mapping):
                start, end = (int(bound, 16) for bound in found.groups())
                self._ranges.append((start, end - start))

    def release_above(self, resident_bytes: int) -> None:
        """Hand the mapping back if the process has more than that resident of all its mapped files."""
        if _DONTNEED is None or not self._ranges or _resident_file_bytes() <= resident_bytes:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        for start, size in self._ranges:
            # Of a shared mapping of a file this forgets where the pages are, never what is in them (madvise(2)).
            if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(_DONTNEED)):
                raise OSError(ctypes.get_errno(), "madvise of the views' file failed")


def _resident_file_bytes() -> int:
    """The pages of all mapped files, libraries included."""
    return int(_STATM.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
