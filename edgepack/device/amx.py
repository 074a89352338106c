"""Linux lets a process use AMX's tile registers when it asks: once, for all its threads.

See Documentation/arch/x86/xstate.rst; the calls are of arch/x86/include/uapi/asm/prctl.h, since Linux 5.16.
"""

from __future__ import annotations

import ctypes
import platform

_ARCH_PRCTL = 158  # its number on x86-64
_GET_SUPPORTED, _REQUEST = 0x1021, 0x1023  # ARCH_GET_XCOMP_SUPP, ARCH_REQ_XCOMP_PERM
_XTILEDATA = 18


def is_supported() -> bool:
    """Say whether this processor and its Linux have tile registers; nothing is asked for."""
    mask = ctypes.c_uint64()
    return _call(_GET_SUPPORTED, ctypes.byref(mask)) and bool(mask.value >> _XTILEDATA & 1)


def request() -> bool:
    """Ask for the tile registers; say whether this process may use them."""
    return _call(_REQUEST, ctypes.c_ulong(_XTILEDATA))


def _call(option: int, argument: object) -> bool:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    return int(syscall(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(option), argument)) == 0
