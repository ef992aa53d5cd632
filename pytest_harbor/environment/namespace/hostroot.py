"""What of the host an environment sees: its operating system, and nothing else.

Directories are listed that are visible, not those that are hidden: what nobody thought of is not there. Of the visible
ones, what not everybody may read is replaced by something empty.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_harbor._util.process import process_token
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree

# Raised when what base layers are made of changes.
VERSION = "1"

CANDIDATES = (
    "usr",
    "etc",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    # The package manager's own books, without which nothing can be installed.
    "var/lib/dpkg",
    "var/lib/rpm",
    "var/lib/pacman",
)
SKELETON = {
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
SKELETON_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
FIRST_PERSON = 1000
NOBODY = 65534
EMPTIED = ("etc/machine-id", "etc/hostname")
SUDOERS = "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"


@dataclass(frozen=True)
class HostRoot:
    """The host's own root file system, as far as environments see it.

    Attributes:
        visible: directories, relative to the root, that environments have overlays of.
        links: symbolic links at the root, such as bin.
        hidden: absolute paths below visible directories that stay hidden: the project and so on.
        user_namespace: whether environments are in user namespaces, as this process is not root.

    """

    visible: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    hidden: tuple[Path, ...]
    user_namespace: bool

    @classmethod
    def look(cls, hidden: tuple[Path, ...], *, user_namespace: bool) -> HostRoot:
        """Look at this host."""
        visible, links = [], []
        for name in CANDIDATES:
            path = Path("/") / name
            if path.is_symlink():
                links.append((name, str(path.readlink())))
            elif path.is_dir():
                visible.append(name)
        if not any(Path(f"/usr/{place}/python3").exists() for place in ("bin", "local/bin")):
            # A machine whose only Python is in somebody's home.
            visible.append(str(Path(sys.base_prefix).resolve()).lstrip("/"))
        below = {path.resolve() for path in hidden}
        return cls(
            tuple(visible),
            tuple(links),
            tuple(sorted(path for path in below if any(_is_below(path, name) for name in visible))),
            user_namespace,
        )

    @property
    def description(self) -> str:
        """The operating system's name."""
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return "Linux"

    def ensure_base(self, cache: Cache) -> str:
        """Return the id of the layer that hides what is private, made when it is missing."""
        name = self._fingerprint()
        if not (cache.layers / name).exists():
            making = cache.layers / f"{name}.{process_token()}"
            _Base(self, making).make()
            try:
                making.rename(cache.layers / name)
            except OSError:
                # Another process was faster.
                remove_tree(str(making))
        return name

    def _fingerprint(self) -> str:
        """Return a name for the host's present state: an image is worth nothing on top of another system."""
        total = hashlib.sha256(f"{VERSION} {self}".encode())
        watched = ["/etc/os-release", "/var/lib/dpkg/status", "/var/lib/rpm", "/lib/apk/db/installed"]
        for name in [*watched, *(f"/{name}" for name in self.visible), "/usr/bin", "/usr/lib", "/usr/local/bin"]:
            try:
                total.update(f"{name} {Path(name).stat().st_mtime_ns}".encode())
            except OSError:
                continue
        for path, status in self.private():
            total.update(f"{path} {status.st_mode} {status.st_uid} {status.st_gid}".encode())
        for file in ("/etc/passwd", "/etc/group"):
            total.update(Path(file).read_bytes() if Path(file).exists() else b"")
        return total.hexdigest()[:12]

    def private(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield what is below /etc that not everybody may read."""
        pending = [Path("/etc")]
        while pending:
            try:
                entries = sorted(pending.pop().iterdir())
            except OSError:
                continue
            for path in entries:
                status = path.lstat()
                if stat.S_ISDIR(status.st_mode):
                    if status.st_mode & 0o005 == 0o005:
                        pending.append(path)
                        continue
                elif not stat.S_ISREG(status.st_mode) or status.st_mode & 0o004:
                    continue
                yield path, status


class _Base:
    """Makes the layer directly above the host's root.

    Args:
        host: the host's root.
        place: the directory to make.

    """

    def __init__(self, host: HostRoot, place: Path) -> None:
        self._host = host
        self._place = place
        self._root = place / "root"
        self._opaque = "user.overlay.opaque" if host.user_namespace else "trusted.overlay.opaque"

    def make(self) -> None:
        """Make it."""
        self._root.mkdir(parents=True)
        for name, mode in SKELETON.items():
            _directory(self._root / name, mode)
        for name, target in (*SKELETON_LINKS.items(), *self._host.links):
            (self._root / name).symlink_to(target)
        for name in self._host.visible:
            _parents(self._root / name)
            if self._host.user_namespace:
                self._own(name)
            if name not in CANDIDATES:
                link = self._place / "usr/local/bin/python3"
                self._copy_parents(Path("/usr/local/bin/python3"))
                link.symlink_to(f"/{name}/bin/python3")
        for path, status in self._host.private():
            self._hide(path, status)
        for name in ("etc/passwd", "etc/group"):
            path = Path("/") / name
            place = self._copy_parents(path)
            _write(place, "".join(f"{line}\n" for line in _system_accounts(path)))
            place.chmod(0o644)
        for name in EMPTIED:
            path = Path("/") / name
            if path.exists():
                self._hide(path, path.stat())
        for path in self._host.hidden:
            if path.is_dir():
                self._hide(path, path.stat())

    def _hide(self, path: Path, status: os.stat_result) -> None:
        """Put something empty over a path of the host."""
        place = self._copy_parents(path)
        if stat.S_ISDIR(status.st_mode):
            remove_tree(str(place))
            place.mkdir()
            os.setxattr(place, self._opaque, b"y")
        else:
            _write(place, _replacement(path))
        self._dress(place, status)

    def _dress(self, place: Path, status: os.stat_result) -> None:
        if not self._host.user_namespace:
            os.chown(place, status.st_uid, status.st_gid)
        place.chmod(stat.S_IMODE(status.st_mode))

    def _copy_parents(self, path: Path) -> Path:
        """Make the directories above a path as the host has them, for what is on top decides on their modes."""
        visible = next(name for name in self._host.visible if _is_below(path, name))
        place = self._place / slug(visible)
        source = Path("/") / visible
        for part in (None, *path.relative_to(source).parts[:-1]):
            if part is not None:
                place, source = place / part, source / part
            if not place.exists():
                place.mkdir()
                if source.exists():
                    self._dress(place, source.stat())
        return place / path.name

    def _own(self, name: str) -> None:
        """Make directories of our own over those of the host: those of others could not be written to.

        The kernel changes only what belongs to users of the environment, and root of the host is none. Of /etc, files
        too, as programs change them in place.
        """
        top = Path("/") / name
        for directory, directories, files in os.walk(top):
            source = Path(directory)
            place = self._place / slug(name) / source.relative_to(top)
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(stat.S_IMODE(source.stat().st_mode) | 0o700)
            directories[:] = [each for each in directories if os.access(source / each, os.R_OK | os.X_OK)]
            if name != "etc":
                continue
            for each in files:
                if os.access(source / each, os.R_OK) and (source / each).is_file():
                    shutil.copy2(source / each, place / each, follow_symlinks=False)


def slug(visible: str) -> str:
    """Return the name that a visible directory has within layers."""
    return visible.replace("/", "-") or "root"


def _replacement(path: Path) -> str:
    """Return what stands in for a private file: mostly nothing."""
    if path.name in ("shadow", "gshadow"):
        rest = ":*:19000:0:99999:7:::" if path.name == "shadow" else ":*::"
        accounts = _system_accounts(Path("/etc/passwd" if path.name == "shadow" else "/etc/group"))
        return "".join(f"{line.partition(':')[0]}{rest}\n" for line in accounts)
    return SUDOERS if str(path) == "/etc/sudoers" else ""


def _system_accounts(path: Path) -> list[str]:
    """Return the lines of passwd or group that are not about people, whose ids a task may want for its own users."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) < 4 or not fields[2].isdigit() or FIRST_PERSON <= int(fields[2]) < NOBODY:
            continue
        if path.name == "group":
            fields[3] = ""
        kept.append(":".join(fields))
    return kept


def _write(path: Path, text: str) -> None:
    """Write a file anew, whatever mode an earlier one has."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def _is_below(path: Path, visible: str) -> bool:
    top = Path("/") / visible
    return path != top and top in path.parents


def _directory(path: Path, mode: int) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def _parents(path: Path) -> None:
    """Make a mount point that everybody can get to."""
    if not path.exists():
        _parents(path.parent)
        _directory(path, 0o755)
