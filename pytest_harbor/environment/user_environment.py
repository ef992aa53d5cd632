"""An environment as a user's code sees it: in callable agents and in tests."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pytest_harbor.environment.base import Environment, ExecResult, Output
from pytest_harbor.environment.tar.pack import UploadError
from pytest_harbor.environment.uploads import user_uploads
from pytest_harbor.errors import CannotExecute, EngineUnavailable, EnvironmentLost, InfrastructureError

# Prints the ids of its user, with nothing but the shell's built-ins.
IDS = "while read -r key id _; do case $key in Uid:|Gid:) echo $id ;; esac; done </proc/self/status"


class UserEnvironment:
    """A running environment whose methods act as one user, in one directory, with given environment variables.

    Args:
        environment: the environment of the provider.
        user: the user; None for the image's user.
        workdir: the directory; empty for the environment's.
        variables: environment variables to add to the environment's own.
        output: takes the output of commands.

    Attributes:
        name: the container's name.
        workdir: the working directory.
        provided: the environment of the provider.

    """

    def __init__(
        self,
        environment: Environment,
        *,
        user: str | None = None,
        workdir: str = "",
        variables: Mapping[str, str] | None = None,
        output: Output | None = None,
    ) -> None:
        self.provided = environment
        self.name = environment.name
        self.workdir = workdir or environment.workdir
        self._user = user
        self._variables = dict(variables or {})
        self._output = output

    def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        log: bool = True,
    ) -> ExecResult:
        """Run a command and return its exit code and output.

        A command that cannot be started has the exit code 127 if it was not found, else 126, and the reason as output.

        Args:
            command: a command line for bash, or a program and its arguments.
            timeout: the time limit in seconds; an agent's remaining time if that is shorter or None is given.
            cwd: the directory to run in, relative to the working directory.
            env: environment variables in addition to those of the agent or the environment.
            user: the user to run as; None for the agent's user, or that of the image.
            log: whether to copy the output to the agent's log as it arrives.

        """
        remaining = self._remaining()
        limits = [limit for limit in (timeout, remaining) if limit is not None]
        with self._call():
            try:
                return self.provided.exec(
                    command if isinstance(command, str) else [str(word) for word in command],
                    user=str(user) if user is not None else self._user,
                    cwd=posixpath.join(self.workdir, str(cwd)) if cwd else self.workdir,
                    env={**self._variables, **{name: str(value) for name, value in (env or {}).items()}},
                    timeout=min(limits, default=None),
                    output=self._output if log else None,
                )
            except CannotExecute as error:
                # A mistake in the command, for the caller to deal with.
                if log:
                    self._log(f"{error.fact}\n".encode("utf-8", "replace"))
                return ExecResult(error.exit_code, f"{error.fact}\n")

    def upload(self, source: str | Path, target: str) -> None:
        """Copy a file or a directory from the host to an absolute path in the environment.

        The copies belong to the user. Existing directories keep their owner and mode. Links are followed.

        Raises:
            FileNotFoundError: the source does not exist.
            IsADirectoryError: the source is a file, and the target a directory.
            OSError: the source cannot be read, or the target cannot be written.

        """
        self._remaining()
        root = Path(source)
        # An empty path is not the current directory, but a mistake.
        if not str(source) or not root.exists():
            raise FileNotFoundError(f"{source} does not exist" if str(source) else "the path to upload is empty")
        with self._call(), _as_os_error():
            # Container engines replace the directory.
            if root.is_file() and self._is_directory(target):
                raise IsADirectoryError(f"{target} is a directory; give the path of the copy, {target}/{root.name}")
            self.provided.upload(user_uploads(root, target, self._owner))

    def download(self, source: str, target: str | Path) -> None:
        """Copy a file, or the contents of a directory, from the environment to a path on the host.

        Raises:
            FileNotFoundError: the path does not exist.
            OSError: it cannot be read.

        """
        self._remaining()
        with self._call(), _as_os_error():
            if self._is_directory(source):
                self.provided.download(source, Path(target))
            else:
                self.provided.read_file(source, Path(target))

    def _is_directory(self, path: str) -> bool:
        """Return True if a path in the environment is a directory; False if an agent has removed the shell."""
        with contextlib.suppress(CannotExecute):
            return self.provided.exec(["test", "-d", path], user="0", cwd="/").exit_code == 0
        return False

    @cached_property
    def _owner(self) -> tuple[int, int]:
        """The user's ids of user and group; root's if an agent has removed the shell that reports them."""
        with contextlib.suppress(CannotExecute, ValueError):
            result = self.provided.exec(["/bin/sh", "-c", IDS], user=self._user, cwd="/")
            uid, gid = result.output.split()
            return int(uid), int(gid)
        return 0, 0

    def _log(self, data: bytes) -> None:
        if self._output is not None:
            self._output(data)

    def _remaining(self) -> float | None:
        """Return the seconds that are left for a call; None without a limit."""
        return None

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Surround a call of the provider's environment."""
        yield


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise as OSError what is wrong with a path: it is for the caller to deal with."""
    try:
        yield
    except (EnvironmentLost, EngineUnavailable):
        raise
    except (InfrastructureError, UploadError) as error:
        raise OSError(str(error)) from error
