"""Users and groups, read from /etc/passwd and /etc/group of the system that this code runs in.

Also loaded inside environments and embedded in env.py: the standard library only, and as little of it as possible.
"""

from __future__ import annotations

import os

# Larger than any honest file; an agent may have left anything there.
_FILE_BYTES = 1 << 20


class NoSuchUser(Exception):
    """There is no user or group with this name."""


class User:
    """The identity that a process runs with.

    Args:
        uid: user id.
        gid: primary group id.
        groups: supplementary group ids.
        home: home directory.

    """

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def find_user(name: str) -> User:
    """Look up `user` or `user:group`, each by name or number; an empty name is root.

    Raises:
        NoSuchUser: there is no user or group with this name.

    """
    who, _, group = (name or "0").partition(":")
    entries = [entry for entry in _entries("/etc/passwd", 6) if entry[2].isdigit() and entry[3].isdigit()]
    found = next((entry for entry in entries if entry[0] == who), None)
    found = found or next((entry for entry in entries if who.isdigit() and entry[2] == str(int(who))), None)
    if found:
        uid, gid, home = int(found[2]), int(found[3]), found[5] or "/"
    elif who.isdigit():
        uid, gid, home = int(who), 0, "/root" if int(who) == 0 else "/"
    else:
        raise NoSuchUser(f"unable to find user {who}: no matching entries in passwd file")
    if group:
        return User(uid, find_group(group), (), home)
    supplementary = [int(entry[2]) for entry in _entries("/etc/group", 4) if found and found[0] in entry[3].split(",")]
    return User(uid, gid, tuple(supplementary), home)


def find_group(name: str) -> int:
    """Look up a group id by name or number.

    Raises:
        NoSuchUser: there is no group with this name.

    """
    for entry in _entries("/etc/group", 4):
        if entry[0] == name:
            return int(entry[2])
    if name.isdigit():
        return int(name)
    raise NoSuchUser(f"unable to find group {name}: no matching entries in group file")


def _entries(path: str, fields: int) -> list[list[str]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(descriptor, _FILE_BYTES)
    except OSError:
        return []
    finally:
        os.close(descriptor)
    rows = [line.split(":") for line in data.decode("utf-8", "replace").splitlines()]
    return [row for row in rows if len(row) >= fields and (fields != 4 or row[2].isdigit())]
