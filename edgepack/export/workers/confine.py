"""Takes network, local daemons and writing outside one folder from this process, as far as Linux lets it do so itself.

Standard library only, Python 3.9 or newer. Everything here holds for child processes too and cannot be undone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

_NO_NEW_PRIVILEGES = 38  # linux/prctl.h, PR_SET_NO_NEW_PRIVS
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # linux/sched.h
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the system calls of Landlock, the same on every processor
_PATH_BENEATH = 1
# linux/landlock.h, LANDLOCK_ACCESS_FS_*: all that writes, by the version of Landlock that knows it.
_WRITES = ((1, 0x1FF2), (2, 0x2000), (3, 0x4000))
_WRITE_FILE, _TRUNCATE = 0x2, 0x4000
_NET_TCP = 0x3  # LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP, since version 4
_SCOPE = 0x3  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL, since version 6
# linux/seccomp.h and linux/filter.h; by processor linux/audit.h's AUDIT_ARCH_* and the number of socket(2).
_SET_SECCOMP, _MODE_FILTER = 22, 2
_PROCESSORS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _PROCESSOR, _FIRST_ARGUMENT = 0, 4, 16  # where struct seccomp_data has them
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # EACCES
_X32, _IO_URING = 0x40000000, 425  # other numbers of the same calls on x86, and calls that no filter sees


def confine(folder: Path, *, network: bool) -> list[str]:
    """Confine this process, and return in words what could not be taken from it; ``network`` leaves that."""
    if sys.platform != "linux":
        return ["network and files: this system is not Linux"]
    libc = ctypes.CDLL(None, use_errno=True)
    alone = network or _leave_network(libc)
    version = max(0, libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))
    deny_tcp = not alone and version >= 4
    left = [] if _restrict(libc, version, folder, deny_tcp=deny_tcp) else ["files: this kernel has no Landlock"]
    if not alone:
        left.append("network: TCP alone is taken" if deny_tcp and not left else "network: no namespace of its own")
    if not _leave_local_sockets(libc):
        left.append("other programs here: this system has no seccomp for this processor")
    return left


def _leave_local_sockets(libc: ctypes.CDLL) -> bool:
    """Refuse sockets of the family AF_UNIX: a daemon behind a path, such as Docker's, writes for whoever asks it.

    Neither a network namespace nor Landlock takes these. Pairs of sockets (socketpair) stay. A filter of system calls
    (docs.kernel.org, "Seccomp BPF"): each step is a code, how far to jump if it holds and if not, and a value.
    """
    known = _PROCESSORS.get(platform.machine())
    if known is None or sys.maxsize < 2**32:
        return False
    processor, socket_call = known
    steps = (
        (_LOAD, 0, 0, _PROCESSOR),
        (_EQUAL, 0, 7, processor),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 5, 0, _X32),
        (_EQUAL, 4, 0, _IO_URING),
        (_EQUAL, 0, 2, socket_call),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, 1),  # AF_UNIX
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    )
    filled = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(filled)))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_SET_SECCOMP, _MODE_FILTER, program, 0, 0) == 0)


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Enter a network namespace with no device; users other than root need one of users around it."""
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_NET) == 0:
        return True
    if libc.unshare(_NEW_USER | _NEW_NET) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            Path(f"/proc/self/{name}").write_text(text)
        except OSError:
            pass  # then files belong to nobody in the eyes of this process, which may read them all the same
    return True


def _restrict(libc: ctypes.CDLL, version: int, folder: Path, *, deny_tcp: bool) -> bool:
    """Allow writing below ``folder`` and into /dev/null alone (docs.kernel.org, "Landlock: unprivileged access")."""
    if version < 1:
        return False
    writes = sum(rights for least, rights in _WRITES if version >= least)
    rules = struct.pack("=QQQ", writes, _NET_TCP if deny_tcp else 0, _SCOPE if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE, ctypes.c_char_p(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    files = writes & (_WRITE_FILE | _TRUNCATE)
    done = all(_allow(libc, ruleset, path, rights) for path, rights in ((folder, writes), ("/dev/null", files)))
    done = done and libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    done = done and libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return done


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path | str, rights: int) -> bool:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", rights, place)
    arguments = (ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.c_char_p(rule), ctypes.c_uint32(0))
    added = libc.syscall(_ADD_RULE, *arguments)
    os.close(place)
    return bool(added == 0)
