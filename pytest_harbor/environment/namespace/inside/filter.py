"""The filter of system calls: what is refused in every environment, and what only seems to happen in some.

Refused is what a container engine refuses too, and what a name space does not part from the host: kernel keys, the
kernel's log, and name spaces of one's own, in which a process would have more rights than outside.

An ordinary user gets a single user id into a namespace of its own. Package managers, `useradd` and `chown` want more:
so they are told that it worked, as Charliecloud and others do.
"""

from __future__ import annotations

import ctypes
import errno
import platform

from pytest_harbor.environment.namespace.inside.syscalls import (
    CLONE_NEWUSER,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    prctl,
)

# By machine: the kernel's number of the architecture; the numbers of clone; of what is refused: unshare, setns,
# add_key, request_key, keyctl, syslog, bpf, perf_event_open, userfaultfd; and of what owners are changed with: chown,
# fchown, lchown, fchownat, setuid, setgid, setreuid, setregid, setgroups, setresuid, setresgid, setfsuid, setfsgid
# (where the machine has them).
_CALLS: dict[str, tuple[int, int, tuple[int, ...], tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        56,
        (272, 308, 248, 249, 250, 103, 321, 298, 323),
        (92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        (97, 268, 217, 218, 219, 116, 280, 241, 282),
        (54, 55, 143, 144, 145, 146, 147, 149, 151, 152, 159),
    ),
}
# The C library falls back to clone, whose flags can be looked at.
_CLONE3 = 435

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000  # SECCOMP_RET_ERRNO; with 0 for an errno, a call succeeds without doing anything
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def filter_calls(*, one_user: bool) -> bool:
    """Filter the system calls of this process and of all that come from it.

    Args:
        one_user: whether changes of owners are to succeed without effect.

    Returns:
        Whether the kernel and this module know how.

    """
    known = _CALLS.get(platform.machine())
    if known is None:
        return False
    architecture, clone, refused, owners = known
    rows = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _NUMBER),
    ]
    answers = [(number, errno.EPERM) for number in refused] + [(_CLONE3, errno.ENOSYS)]
    answers += [(number, 0) for number in owners] if one_user else []
    for number, answer in answers:
        rows += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | answer)]
    rows += [
        (_IF_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_IF_ANY_BIT, 0, 1, CLONE_NEWUSER),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = (_Instruction * len(rows))(*(_Instruction(*row) for row in rows))
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(_Program(len(rows), program))) == 0
