"""The seccomp filter: system calls that fail in every environment, and others that pretend to succeed in some.

Calls fail if container engines refuse them too and namespaces do not isolate what they touch: the kernel's keyrings,
its log, and new namespaces, in which a process would have more rights than outside.

An ordinary user can map only a single user id into a user namespace. Package managers, `useradd` and `chown` need
more, so there the calls that change owners and ids do nothing and report success, as in Charliecloud and others.
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

# For each machine: the kernel's number for the architecture; the number of clone; the numbers of the refused calls:
# unshare, setns, add_key, request_key, keyctl, syslog, bpf, perf_event_open, userfaultfd; and those of the calls that
# change owners and ids: chown, fchown, lchown, fchownat, setuid, setgid, setreuid, setregid, setgroups, setresuid,
# setresgid, setfsuid, setfsgid (as far as the machine has them).
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
# A filter cannot see the flags of clone3. Without it, the C library falls back to clone, whose flags are visible.
_CLONE3 = 435

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000  # SECCOMP_RET_ERRNO; with errno 0, the call does nothing and succeeds
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def install_filter(*, single_user: bool) -> bool:
    """Filter the system calls of this process and its future children.

    Args:
        single_user: whether calls that change owners and ids do nothing and succeed.

    Returns:
        True if the filter is installed, False if the machine or the kernel does not support it.

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
    answers += [(number, 0) for number in owners] if single_user else []
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
