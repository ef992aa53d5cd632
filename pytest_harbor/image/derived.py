"""Images built on top of a finished image: the adaptation of an image without a Dockerfile, and an agent's setup."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pytest_harbor._util.files import Digest, file_digest
from pytest_harbor.errors import ImageError
from pytest_harbor.image.agent_files import AgentFile
from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.model import Image

# Part of every setup's digest. Increase it when the way a setup runs changes.
VERSION = "setup-1"

_DIRECTORY = "/.harbor-agent-setup"
_SCRIPT, _RUNNER = f"{_DIRECTORY}/setup", f"{_DIRECTORY}/run"
_ARCHIVE = "files.tar"
_BEGIN = "--- agent setup ---"
_END = "--- agent setup ended with exit code {} ---"
_SHELLS = {"sh", "bash", "dash", "ash"}
_KEPT_LINES = 10
_READ_BYTES = 256 * 1024
# The prefix of each line of `docker buildx build --progress plain`: the step's number and its time in seconds.
_STEP_PREFIX = re.compile(r"^#\d+ (?:\d+\.\d+ )?", re.MULTILINE)

_RUN = f"""\
cd /
echo '{_BEGIN}'
shift
if [ "$1" = shell ]; then
  shift
  if command -v bash >/dev/null 2>&1; then bash -e "$@" {_SCRIPT}; else sh -e "$@" {_SCRIPT}; fi
else
  {_SCRIPT}
fi </dev/null 2>&1
code=$?
rm -rf {_DIRECTORY}
[ $code = 0 ] || echo "{_END.format("$code")}"
exit $code
"""


@dataclass(frozen=True)
class DerivedContext(BuildContext):
    """A build context that only adds an adaptation to a finished image.

    Attributes:
        image: the finished image.

    """

    image: Image | None = None

    @classmethod
    def of(cls, image: Image) -> DerivedContext:
        """Return the context for an image."""
        return cls(Path(image.ref), image=image)

    @contextlib.contextmanager
    def materialized(self) -> Iterator[BuildContext]:
        """Yield a directory with a Dockerfile, for the duration of the block."""
        assert self.image is not None
        with tempfile.TemporaryDirectory(prefix="pytest-harbor-") as temporary:
            dockerfile = Path(temporary, "Dockerfile")
            dockerfile.write_text(f"# {self.image.details.id}\nFROM {self.image.ref}\n", encoding="utf-8")
            dockerfile.chmod(0o644)
            yield BuildContext(Path(temporary), adaptation=self.adaptation)

    @cached_property
    def digest(self) -> str:
        """The directory's digest."""
        with self.materialized() as context:
            return context.digest


@dataclass(frozen=True)
class SetupContext(DerivedContext):
    """A build context that runs an agent's setup as root in `/`, and keeps the image's user and entrypoint.

    Attributes:
        setup: the setup's text: a command line or a script.
        files_seen: the agent files that exist while it runs.
        cache_key: a unique value makes the setup run even if the builder has a cached result; not part of the digest.

    """

    setup: str = ""
    files_seen: tuple[AgentFile, ...] = ()
    cache_key: str = ""

    @property
    def title(self) -> str:
        """The setup's name in messages."""
        assert self.image is not None
        return f"the agent's setup on {self.image.ref}"

    @contextlib.contextmanager
    def materialized(self) -> Iterator[BuildContext]:
        """Yield a directory with a Dockerfile, the setup and the agent files, for the duration of the block.

        Raises:
            ImageError: an agent file cannot be read.

        """
        assert self.image is not None
        with super().materialized() as context:
            # An archive, as it can hold any name and leaves existing directories their owners and modes.
            try:
                with tarfile.open(context.path / _ARCHIVE, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
                    for file in self.files_seen:
                        _add(archive, file)
                    _add_text(archive, _RUNNER, _RUN)
                    _add_text(archive, _SCRIPT, self.setup.replace("\r\n", "\n"))
            except OSError as error:
                raise ImageError(f"{self.title}: an agent file cannot be read: {error}") from error
            user = [] if self.image.runs_as_root else [self.image.details.user]
            arguments = ["shell", *shell_options(self.setup)] if runs_in_shell(self.setup) else []
            lines = [
                *("USER 0" for _ in user),
                f"ADD {_ARCHIVE} /",
                f"RUN {json.dumps(['/bin/sh', _RUNNER, self.cache_key, *arguments])}",
                *(f"USER {name}" for name in user),
            ]
            with context.dockerfile.open("a", encoding="utf-8") as dockerfile:
                dockerfile.write("\n".join(lines) + "\n")
            yield context

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the image, the setup's text, and the paths, modes and contents of the agent files.

        Raises:
            ImageError: an agent file cannot be read.

        """
        assert self.image is not None
        details = self.image.details
        start = [details.id, details.entrypoint, details.workdir, details.user, sorted(details.variables.items())]
        digest = Digest()
        digest.add(VERSION, json.dumps(start), self.setup)
        try:
            for file in self.files_seen:
                digest.add(file.target, str(file.mode), _content(file))
        except OSError as error:
            raise ImageError(f"{self.title}: an agent file cannot be read: {error}") from error
        return digest.hex()


def _content(file: AgentFile) -> bytes:
    if file.mode is None:
        return os.fsencode(file.path.readlink())
    return b"" if file.path.is_dir() else file_digest(file.path)


def _add(archive: tarfile.TarFile, file: AgentFile) -> None:
    status = file.path.lstat()
    info = tarfile.TarInfo(file.target.lstrip("/"))
    info.mtime = int(status.st_mtime)
    if file.mode is None:
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, str(file.path.readlink())
        archive.addfile(info)
    elif file.path.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, file.mode
        archive.addfile(info)
    else:
        info.size, info.mode = status.st_size, file.mode
        with file.path.open("rb") as content:
            archive.addfile(info, content)


def _add_text(archive: tarfile.TarFile, target: str, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    info = tarfile.TarInfo(target.lstrip("/"))
    info.size, info.mode = len(data), 0o755
    archive.addfile(info, io.BytesIO(data))


def runs_in_shell(text: str) -> bool:
    """Return True if a setup runs in a shell, and not in another interpreter named in its first line."""
    words = _interpreter(text)
    return not words or PurePosixPath(words[0]).name in _SHELLS


def shell_options(text: str) -> list[str]:
    """Return the options in the first line of a shell script."""
    return _interpreter(text)[1:]


def _interpreter(text: str) -> list[str]:
    first = text.partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    if words and PurePosixPath(words[0]).name == "env":
        words = [word for word in words[1:] if word != "-S"]
    return words


def setup_failure(log: Path | None) -> str:
    """Return a setup's exit code and the last lines of its output; empty if the build's log does not have them.

    The log may come from any builder.
    """
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ_BYTES))
            text = file.read(_READ_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    text = _STEP_PREFIX.sub("", text.replace("\r\n", "\n"))
    # Only a whole line counts: builders also log the command that they are about to run.
    output = re.split(rf"^{re.escape(_BEGIN)}$", text, maxsplit=1, flags=re.MULTILINE)[-1]
    end = re.search("^" + re.escape(_END).replace(r"\{\}", r"(\d+)") + "$", output, re.MULTILINE)
    if end is None:
        return ""
    lines = [line.rstrip() for line in output[: end.start()].splitlines() if line.strip()]
    tail = "\n".join(lines[-_KEPT_LINES:])
    return f"exit code {end[1]}" + (f", last output:\n{tail}" if tail else ", no output")
