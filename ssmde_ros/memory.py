"""How the C library hands out memory while a network trains on the CPU, or large messages come and go."""

from __future__ import annotations

import ctypes
import logging

_log = logging.getLogger(__name__)

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_KEPT = 2**31 - 1  # bytes


def keep_freed_memory() -> bool:
    """Keep what tensors and messages free for the next ones, instead of giving it back to the system each time.

    As it comes, glibc asks the system anew for what is large (a message from 128 KB on at first, a tensor of more than 32 MB
    always), which then clears each page of it at first touch. In a step of SS-MDE on two cores a quarter of the time went
    there (1.67 s a step, 1.23 s without), for a tenth more of resident memory; of the way of an image to its depth in another
    process more than a millisecond.

    Returns:
        Whether it was done; another C library is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        _log.info("this C library has no mallopt: memory is allocated as it likes")
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
