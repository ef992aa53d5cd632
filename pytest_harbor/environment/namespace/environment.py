"""The environment of one trial: one sandbox."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

from pytest_harbor._util.logs import tail
from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.environment import shell_scripts as shell
from pytest_harbor.environment.entrypoint import HANDOVER_TIMEOUT, handover_fix
from pytest_harbor.environment.listener import accept_connections, listen_on, port_of
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree
from pytest_harbor.environment.namespace.sandbox import Sandbox, processes_of
from pytest_harbor.environment.namespace.sandbox_config import SandboxConfig
from pytest_harbor.environment.shell_environment import ShellEnvironment
from pytest_harbor.environment.start_command import keep_alive_arguments, starts_service
from pytest_harbor.environment.tar.pack import Upload
from pytest_harbor.errors import CannotExecute, EnvironmentLost, InfrastructureError, StartError
from pytest_harbor.image import Image
from pytest_harbor.image.adaptation import KEEP_ALIVE

SERVICE_LOG = "service.log"


class NamespaceEnvironment(ShellEnvironment):
    """A running sandbox; pytest_harbor.environment.Environment documents the methods.

    Args:
        config: the sandbox's configuration.
        name: the environment's name.
        image: its image.
        workdir: its working directory.
        variables: environment variables of everything in it, which override the image's.
        notes: facts for the reader of a result.
        proxies: environment variables of network proxies, which the image and `variables` override.

    """

    provider = "namespace"

    def __init__(
        self,
        config: SandboxConfig,
        name: str,
        image: Image,
        workdir: str,
        variables: Mapping[str, str],
        notes: Sequence[str],
        proxies: Mapping[str, str],
    ) -> None:
        self.id = name
        self.name = name
        self.image = image
        self.workdir = workdir
        self.notes = tuple(notes)
        self.kept: tuple[str, ...] = ()
        self.proxies = proxies
        self._config = config
        self._variables = {
            "PATH": shell.SYSTEM_PATH,
            "HOSTNAME": config.hostname,
            **image.details.variables,
            **proxies,
            **variables,
        }
        self._sandbox = Sandbox(config)
        self._stopped = False

    @property
    def pid(self) -> int:
        """The pid of the sandbox's supervisor on the host."""
        return self._sandbox.pid

    def prepare(self, uploads: Sequence[Upload]) -> None:
        """Put in place what must exist before anything runs, including the working directory."""
        self.kept = tuple(self.upload(uploads))
        self._sandbox.make_directory(self.workdir)

    def start_services(self) -> None:
        """Start the image's ENTRYPOINT, and wait until it has handed over to the keep-alive command.

        Raises:
            StartError: it exits instead.

        """
        entrypoint = self.image.details.entrypoint
        if not starts_service(entrypoint):
            return
        log = self._config.directory / SERVICE_LOG
        self._sandbox.start_service(
            [*entrypoint, *keep_alive_arguments(entrypoint)],
            log,
            user=self.image.details.user,
            cwd=self.workdir,
            variables=self._variables,
        )
        if not self._sandbox.await_process(KEEP_ALIVE, HANDOVER_TIMEOUT):
            output = tail(log, 20).strip()
            fact = f"the ENTRYPOINT of {self.name} stopped by itself"
            raise StartError(fact + (f", last output: {output}" if output else ""), handover_fix(entrypoint, output))

    def _run(
        self,
        argv: list[str],
        parser: shell.OutputParser,
        *,
        user: str | None,
        cwd: str,
        env: Mapping[str, str],
        timeout: float | None,
        start_timeout: float,
    ) -> int | None:

        began = monotonic()

        def take(data: bytes) -> bool:
            parser.feed(data)
            return parser.exit_code is not None

        def deadline() -> float:
            # A busy machine may need longer to start a command than the command may take.
            assert timeout is not None
            return began + (timeout if parser.started else max(timeout, start_timeout))

        try:
            exit_code = self._sandbox.run(
                argv,
                take,
                user=self.image.details.user if user is None else user,
                cwd=cwd,
                variables={**self._variables, **env},
                deadline=None if timeout is None else deadline,
            )
        finally:
            parser.close()
        return exit_code if parser.exit_code is None else parser.exit_code

    def _put_archive(self, archive: IO[bytes], parent: str) -> None:
        try:
            self._sandbox.put(archive, prefix=parent.rstrip("/"))
        except CannotExecute as error:
            raise InfrastructureError(f"uploading to {self.name}: {error.fact}") from error

    def _exists(self, path: str) -> bool:
        return self._sandbox.exists(path)

    def _download_archive(self, source: str) -> Iterator[bytes]:
        try:
            return self._sandbox.get([source])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{source} does not exist in {self.name}: {error}") from error
        except CannotExecute as error:
            raise InfrastructureError(f"downloading {source} from {self.name}: {error.fact}") from error

    def is_running(self) -> bool:
        """Return True if the sandbox is running."""
        return not self._stopped and self._sandbox.is_running()

    def restart(self) -> None:
        """Start a new sandbox over the files that were written."""
        if self._stopped:
            raise EnvironmentLost(f"the environment {self.name} has been removed")
        self._sandbox.close()
        # A leftover work directory tells overlayfs that it was not unmounted cleanly.
        remove_tree(str(self._config.directory / "w"))
        try:
            self._sandbox = Sandbox(self._config)
            self.start_services()
        except (InfrastructureError, OSError) as error:
            raise EnvironmentLost(f"the environment {self.name} cannot be restarted: {error}") from error

    def _kill_all(self) -> str:
        self._sandbox.kill_all()
        self.start_services()
        return "its processes were killed, together with all others"

    @contextlib.contextmanager
    def listen(self, on_connection: Callable[[socket.socket], None]) -> Iterator[str]:
        """Listen on loopback: the host's, or the sandbox's own if it has no network."""
        if not self.is_running():
            raise self._sandbox.lost_error()
        listener = listen_on("127.0.0.1") if self._config.network else self._sandbox.listen()
        port = port_of(listener)
        with accept_connections(listener, on_connection):
            yield f"127.0.0.1:{port}"

    def exec_prefix(self) -> str:
        """Return an nsenter command without quotes, so that a shell can expand it from a variable."""
        flags = "--user --preserve-credentials " if self._config.host.user_namespace else ""
        variables = " ".join(f"{name}={self._variables[name]}" for name in ("PATH", "HOSTNAME"))
        return (
            f"nsenter --target {processes_of(self.pid)[-1]} {flags}--mount --uts --ipc --pid --cgroup "
            f"env -i --chdir={self.workdir} HOME=/root {variables}"
        )

    def stop(self) -> None:
        """End the sandbox with everything that runs in it, and remove its files."""
        if self._stopped:
            return
        self._stopped = True
        self._sandbox.close()
        # A supervisor that was killed has not cleaned up.
        self._config.remove_all()
