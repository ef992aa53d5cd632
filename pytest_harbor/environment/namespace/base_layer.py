"""The base layer, directly above the host's root: it adds empty standard directories and hides what is private."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from pytest_harbor._util.process import process_token
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.host_root import SYSTEM_DIRECTORIES, HostRoot, is_below, overlay_name
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree

STANDARD_DIRECTORIES = {
    "boot": 0o755,
    "dev": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "run/lock": 0o1777,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/local": 0o755,
    "var/log": 0o755,
    "var/mail": 0o755,
    "var/opt": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}
STANDARD_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
# User ids that belong to people; a task may need them for its own users.
FIRST_PERSONAL_ID = 1000
NOBODY = 65534
# World-readable files that identify the host.
IDENTIFYING_FILES = ("etc/machine-id", "etc/hostname")
SUDOERS = "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"


def ensure_base_layer(host: HostRoot, cache: Cache) -> str:
    """Return the id of the base layer for the host's current state; create the layer if it is missing.

    Raises:
        OSError: it cannot be created.

    """
    name = host.fingerprint()
    layer = cache.layers / name
    if not layer.exists():
        scratch = cache.layers / f"{name}.{process_token()}"
        _BaseLayer(host, scratch).create()
        try:
            scratch.rename(layer)
        except OSError:
            # Another process was faster.
            remove_tree(str(scratch))
    return name


class _BaseLayer:
    def __init__(self, host: HostRoot, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._root = directory / "root"
        self._opaque = "user.overlay.opaque" if host.user_namespace else "trusted.overlay.opaque"

    def create(self) -> None:
        self._root.mkdir(parents=True)
        for name, mode in STANDARD_DIRECTORIES.items():
            _make_directory(self._root / name, mode)
        for name, target in (*STANDARD_LINKS.items(), *self._host.links):
            (self._root / name).symlink_to(target)
        for name in self._host.visible:
            _make_mount_point(self._root / name)
            if self._host.user_namespace:
                self._copy_directories(name)
            if name not in SYSTEM_DIRECTORIES:
                link = self._directory / "usr/local/bin/python3"
                self._copy_parents(Path("/usr/local/bin/python3"))
                link.symlink_to(f"/{name}/bin/python3")
        for path, status in self._host.private_files():
            self._hide(path, status)
        for name in ("etc/passwd", "etc/group"):
            path = Path("/") / name
            copy = self._copy_parents(path)
            _replace_file(copy, "".join(f"{line}\n" for line in _system_accounts(path)))
            copy.chmod(0o644)
        for name in IDENTIFYING_FILES:
            path = Path("/") / name
            if path.exists():
                self._hide(path, path.stat())
        for path in self._host.hidden:
            if path.is_dir():
                self._hide(path, path.stat())

    def _hide(self, path: Path, status: os.stat_result) -> None:
        """Cover a path of the host with an empty directory or a harmless file."""
        cover = self._copy_parents(path)
        if stat.S_ISDIR(status.st_mode):
            remove_tree(str(cover))
            cover.mkdir()
            os.setxattr(cover, self._opaque, b"y")
        else:
            _replace_file(cover, _harmless_content(path))
        self._set_attributes(cover, status)

    def _set_attributes(self, path: Path, status: os.stat_result) -> None:
        if not self._host.user_namespace:
            os.chown(path, status.st_uid, status.st_gid)
        path.chmod(stat.S_IMODE(status.st_mode))

    def _copy_parents(self, path: Path) -> Path:
        """Create the directories above a path with the host's modes, since the topmost layer's modes apply."""
        visible = next(name for name in self._host.visible if is_below(path, name))
        copy = self._directory / overlay_name(visible)
        source = Path("/") / visible
        for part in (None, *path.relative_to(source).parts[:-1]):
            if part is not None:
                copy, source = copy / part, source / part
            if not copy.exists():
                copy.mkdir()
                if source.exists():
                    self._set_attributes(copy, source.stat())
        return copy / path.name

    def _copy_directories(self, name: str) -> None:
        """Create all directories of a visible directory again, owned by this user, so that they can be written to.

        The kernel allows changes only to files whose owner is mapped into the user namespace, and the host's root is
        not. In /etc, files are copied as well, because programs modify them in place.
        """
        top = Path("/") / name
        for parent, directories, files in os.walk(top):
            source = Path(parent)
            copy = self._directory / overlay_name(name) / source.relative_to(top)
            copy.mkdir(parents=True, exist_ok=True)
            copy.chmod(stat.S_IMODE(source.stat().st_mode) | 0o700)
            directories[:] = [each for each in directories if os.access(source / each, os.R_OK | os.X_OK)]
            if name != "etc":
                continue
            for each in files:
                if os.access(source / each, os.R_OK) and (source / each).is_file():
                    shutil.copy2(source / each, copy / each, follow_symlinks=False)


def _harmless_content(path: Path) -> str:
    """Return the content that replaces a private file: nothing, in most cases."""
    if path.name in ("shadow", "gshadow"):
        rest = ":*:19000:0:99999:7:::" if path.name == "shadow" else ":*::"
        accounts = _system_accounts(Path("/etc/passwd" if path.name == "shadow" else "/etc/group"))
        return "".join(f"{line.partition(':')[0]}{rest}\n" for line in accounts)
    return SUDOERS if str(path) == "/etc/sudoers" else ""


def _system_accounts(path: Path) -> list[str]:
    """Return the lines of passwd or group without those of people."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) < 4 or not fields[2].isdigit() or FIRST_PERSONAL_ID <= int(fields[2]) < NOBODY:
            continue
        if path.name == "group":
            fields[3] = ""
        lines.append(":".join(fields))
    return lines


def _replace_file(path: Path, text: str) -> None:
    """Write a new file, whatever the mode of the existing one."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def _make_directory(path: Path, mode: int) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def _make_mount_point(path: Path) -> None:
    """Create a directory that every user can reach."""
    if not path.exists():
        _make_mount_point(path.parent)
        _make_directory(path, 0o755)
