"""Copy files into and out of an environment, from a process inside it, so that no link leads outside."""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
import tarfile

from pytest_harbor._util.users import find_group, find_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_MIB = 1 << 20
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def put(request: dict[str, Any], archive: IO[bytes]) -> None:
    """Unpack a tar archive.

    Args:
        request: `prefix` (the directory to unpack into; links in it are followed), `owner` (`user:group`, empty for
            the archive's own), `mode` (permission bits, -1 for the archive's own) and `name` (a new name for the only
            member, empty for its own).
        archive: a tar stream.

    """
    prefix = request.get("prefix", "")
    ids = _owner_ids(request["owner"]) if request.get("owner") else None
    mode = request.get("mode", -1)
    directories = []
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            path = f"{prefix}/{request.get('name') or member.name}"
            uid, gid = ids or (member.uid, member.gid)
            path = os.path.normpath(path)
            _make_parents(os.path.dirname(path), ids or (0, 0))
            if _create(tar, member, path, prefix):
                os.chown(path, uid, gid, follow_symlinks=False)
                if not member.issym():
                    os.chmod(path, member.mode & 0o7777 if mode < 0 else mode)
                    os.utime(path, (member.mtime, member.mtime))
                if member.isdir():
                    directories.append((path, member.mtime))
    # Putting files into a directory changed its time.
    for path, time in directories:
        os.utime(path, (time, time))


def make_directory(request: dict[str, Any]) -> None:
    """Create the directory `path` and its missing parents, all owned by `owner`."""
    _make_parents(os.path.normpath(request["path"]), _owner_ids(request["owner"] or "0:0"))


def _owner_ids(owner: str) -> tuple[int, int]:
    """Return the user and group id of an owner; a bare user number is used for the group, too."""
    who, _, group = owner.partition(":")
    user = find_user(who)
    if group:
        return user.uid, find_group(group)
    return user.uid, user.uid if who.isdigit() else user.gid


def _make_parents(path: str, ids: tuple[int, int]) -> None:
    if os.path.isdir(path):
        return
    _make_parents(os.path.dirname(path), ids)
    if os.path.islink(path):
        # It leads nowhere, or to a file.
        os.unlink(path)
    elif os.path.lexists(path):
        raise NotADirectoryError(errno.ENOTDIR, "it is not a directory", path)
    os.mkdir(path)
    os.chmod(path, 0o755)
    os.chown(path, *ids)


def _create(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, prefix: str) -> bool:
    """Create a member's file; return whether there is something whose owner and mode should be set."""
    if member.isdir():
        # Like container engines: keep an existing directory or a link to one.
        if not os.path.isdir(path):
            _remove(path)
            os.mkdir(path)
        return path != "/"
    _remove(path)
    if member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(os.path.normpath(f"{prefix}/{member.linkname}"), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.isreg():
        content = tar.extractfile(member)
        with open(path, "xb") as file:
            while content is not None and (piece := content.read(_MIB)):
                file.write(piece)
    else:
        return False
    return True


def _remove(path: str) -> None:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rmdir(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return


def get(request: dict[str, Any], archive: IO[bytes]) -> None:
    """Write files and directories to a tar archive.

    Args:
        request: `paths`; if `contents` is set, they are patterns, and for a directory only its entries are written.
        archive: the file to write to.

    Raises:
        FileNotFoundError: a path does not exist, or a pattern matches nothing.

    """
    with tarfile.open(fileobj=archive, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path in request["paths"]:
            if not request.get("contents"):
                path = os.path.normpath(path)
                os.lstat(path)
                _pack(tar, path, os.path.basename(path) or "/")
                continue
            found = list(_matches(path))
            if not found:
                raise FileNotFoundError(2, "no such file or directory", path)
            for match in found:
                if os.path.isdir(match):
                    for name in sorted(os.listdir(match)):
                        _pack(tar, f"{match}/{name}", name)
                else:
                    _pack(tar, os.path.realpath(match), os.path.basename(match))


def _matches(pattern: str) -> list[str]:
    """Return the paths that match a pattern, component by component."""
    found = ["/"]
    for part in os.path.normpath(pattern).strip("/").split("/"):
        if part in ("", "."):
            continue
        if any(c in part for c in "*?["):
            names = [(base, name) for base in found if os.path.isdir(base) for name in sorted(os.listdir(base))]
            found = [os.path.join(base, name) for base, name in names if fnmatch.fnmatchcase(name, part)]
        else:
            found = [os.path.join(base, part) for base in found if os.path.lexists(os.path.join(base, part))]
    return found


def _pack(tar: tarfile.TarFile, path: str, name: str) -> None:
    """Add a path and everything below it, at any depth; files may vanish while this runs."""
    pending = [(path, name)]
    while pending:
        path, name = pending.pop()
        try:
            info = tar.gettarinfo(path, name)
        except (OSError, ValueError):
            continue
        # tarfile returns None for a socket.
        if info is None:
            continue
        # Store hard links as separate files, because whoever unpacks the archive may skip the first name.
        if info.islnk():
            info.type, info.linkname = tarfile.REGTYPE, ""
        if info.isreg():
            _pack_file(tar, info, path)
            continue
        tar.addfile(info)
        if info.isdir():
            try:
                names = sorted(os.listdir(path), reverse=True)
            except OSError:
                continue
            pending += [(f"{path}/{child}", f"{name}/{child}") for child in names]


def _pack_file(tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            info.size = status.st_size
            tar.addfile(info, _FixedSizeFile(file, info.size))


class _FixedSizeFile:
    """A file that reads as exactly `size` bytes, even while others write to it."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        self._left -= size
        return data + bytes(size - len(data))
