"""System calls that Python does not wrap, made through the C library."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

SIOCSIFFLAGS = 0x8914
IFF_UP = 1

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
SECCOMP_MODE_FILTER = 2

# Docker's default capabilities for root in a container, except mknod and raw sockets: CHOWN, DAC_OVERRIDE, FOWNER,
# FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP. They must be fewer than the
# first process has, so that no other process can trace it (ptrace(2)).
KEPT_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31))

# Not every C library has a wrapper for pivot_root.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "i686": 217, "armv7l": 218, "ppc64le": 203, "s390x": 217}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move this process (or, for PIDs, its future children) into new namespaces; see unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system; see mount(2)."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data))
    _check(_libc.mount(*arguments), f"mount {kind or 'bind'} on {target}")


def pivot_root(new_root: str) -> None:
    """Make a mount the root of this mount namespace and detach the old root."""
    os.chdir(new_root)
    if hasattr(_libc, "pivot_root"):
        _check(_libc.pivot_root(b".", b"."), "pivot_root")
    else:
        number = _PIVOT_ROOT[platform.machine()]
        _check(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    # Now the old root is stacked on top of the new one.
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def prctl(option: int, value: int = 0, pointer: object = None) -> int:
    """Change an attribute of this process and return what the kernel returns; see prctl(2)."""
    zero = ctypes.c_ulong(0)
    return int(_libc.prctl(option, ctypes.c_ulong(value), zero if pointer is None else pointer, zero, zero))


def set_hostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    data = name.encode()[:63]
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), "sethostname")


def bring_up_loopback() -> None:
    """Bring up the loopback interface of this network namespace; see netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def drop_capabilities() -> None:
    """Limit every program that this process executes to KEPT_CAPABILITIES, even as root."""
    number = 0
    while (present := prctl(PR_CAPBSET_READ, number)) >= 0:
        if present and number not in KEPT_CAPABILITIES:
            _check(prctl(PR_CAPBSET_DROP, number), "dropping a capability")
        number += 1


def hide_command_line() -> None:
    """Overwrite this process's arguments, which name host paths and which every process can read."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    if 0 < begin < end:
        name = b"harbor-init\0"[: end - begin]
        ctypes.memset(begin, 0, end - begin)
        ctypes.memmove(begin, name, len(name))
