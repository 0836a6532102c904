"""How memory is given out, set for what a network on a CPU asks of it."""

from __future__ import annotations

import ctypes
import os
from functools import cache

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MIB = 1 << 20


@cache
def prepare_heap() -> None:
    """Make the memory of feature maps cheaper, in this whole process and for what is allocated from now on.

    They take tens of megabytes a tile, which the C library asks of the kernel anew and gives back each time; filling
    4 KiB pages with zeros is then a third of a detector's time on tiles of 1024 px. So large tensors are put on pages
    of 2 MiB (torch's own switch, unless the user has set it), and what is below 64 MiB stays with the process. Larger
    blocks are given back, and all threads share one heap, so that the peak does not grow. Without glibc only the
    former is done.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch allocates for the first time
    try:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    except TypeError:  # Windows has no library without a name
        return
    if mallopt is not None:
        for name, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 64 * _MIB), (_M_TRIM_THRESHOLD, 128 * _MIB)):
            mallopt(name, value)
