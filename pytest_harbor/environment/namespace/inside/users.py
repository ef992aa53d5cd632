"""Users of an environment, as its own /etc says; and becoming one."""

from __future__ import annotations

import os

# More than any honest file has; an agent may have left anything.
_LIMIT = 1 << 20


class NoSuchUser(Exception):
    """A user or group that the environment does not know."""


class User:
    """Who a process runs as.

    Args:
        uid: user id.
        gid: group id.
        groups: ids of further groups.
        home: home directory.

    """

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def find_user(name: str) -> User:
    """Look up `user`, `user:group`, by name or number; an empty name is root.

    Raises:
        NoSuchUser: there is no such name.

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
    extra = [int(entry[2]) for entry in _entries("/etc/group", 4) if found and found[0] in entry[3].split(",")]
    return User(uid, gid, tuple(extra), home)


def find_group(name: str) -> int:
    """Look up a group by name or number.

    Raises:
        NoSuchUser: there is no such name.

    """
    for entry in _entries("/etc/group", 4):
        if entry[0] == name:
            return int(entry[2])
    if name.isdigit():
        return int(name)
    raise NoSuchUser(f"unable to find group {name}: no matching entries in group file")


def become(user: User, one_user: bool) -> None:
    """Take on a user's ids; where the kernel gave us one user only, everybody is that one."""
    if one_user:
        return
    os.setgroups([user.gid, *user.groups])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def _entries(path: str, fields: int) -> list[list[str]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(descriptor, _LIMIT)
    except OSError:
        return []
    finally:
        os.close(descriptor)
    rows = [line.split(":") for line in data.decode("utf-8", "replace").splitlines()]
    return [row for row in rows if len(row) >= fields and (fields != 4 or row[2].isdigit())]
