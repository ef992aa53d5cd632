"""Many users where the kernel gives us one: changing owners and ids succeeds without any effect.

An ordinary user gets a single user id into a namespace of its own. Package managers, `useradd` and `chown` want more:
so they are told that it worked, as Charliecloud and others do, by a filter of system calls.
"""

from __future__ import annotations

import ctypes
import platform

from pytest_harbor.environment.namespace.inside.syscalls import PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prctl

# By machine: the kernel's number of the architecture, and its numbers of chown, fchown, lchown, fchownat, setuid,
# setgid, setreuid, setregid, setgroups, setresuid, setresgid, setfsuid, setfsgid (those that it has).
_CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (0xC000003E, (92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123)),
    "aarch64": (0xC00000B7, (54, 55, 143, 144, 145, 146, 147, 149, 151, 152, 159)),
}
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_SUCCEED = 0x00050000  # SECCOMP_RET_ERRNO with errno 0


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def pretend_many_users() -> bool:
    """Have this process and all that come from it believe that owners can be changed; False where we cannot."""
    known = _CALLS.get(platform.machine())
    if known is None:
        return False
    architecture, calls = known
    rows = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for index, number in enumerate(calls):
        rows.append((_JUMP_EQUAL, len(calls) - index, 0, number))
    rows += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _SUCCEED)]
    program = (_Instruction * len(rows))(*(_Instruction(*row) for row in rows))
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(_Program(len(rows), program))) == 0
