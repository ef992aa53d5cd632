"""One sandbox as the environment of one trial."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_harbor._util.logs import tail
from pytest_harbor._util.text import printable
from pytest_harbor.environment import shell_scripts as shell
from pytest_harbor.environment.entrypoint import HANDOVER_TIMEOUT, handover_fix, starts_service
from pytest_harbor.environment.listener import accept_connections, listen_on, port_of
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree
from pytest_harbor.environment.namespace.layout import Layout
from pytest_harbor.environment.namespace.sandbox import Sandbox, processes_of
from pytest_harbor.environment.shell_environment import ShellEnvironment
from pytest_harbor.environment.tar.pack import Upload, pack
from pytest_harbor.errors import CannotExecute, EnvironmentLost, InfrastructureError, StartError
from pytest_harbor.image import Image
from pytest_harbor.image.adaptation import KEEP_ALIVE

SERVICE_LOG = "service.log"


class NamespaceEnvironment(ShellEnvironment):
    """A running sandbox; see pytest_harbor.environment.Environment for what each method promises.

    Args:
        layout: what it is made of.
        name: its name.
        image: its image.
        workdir: its working directory.
        variables: variables of everything in it, on top of the image's.
        notes: what a reader of the result should know.

    """

    provider = "namespace"

    def __init__(
        self,
        layout: Layout,
        name: str,
        image: Image,
        workdir: str,
        variables: Mapping[str, str],
        notes: Sequence[str],
    ) -> None:
        self.id = name
        self.name = name
        self.image = image
        self.workdir = workdir
        self.notes = tuple(notes)
        self._layout = layout
        self._variables = {
            "PATH": shell.SYSTEM_PATH,
            "HOSTNAME": layout.hostname,
            **image.details.variables,
            **variables,
        }
        self._sandbox = Sandbox(layout)
        self._stopped = False

    @property
    def pid(self) -> int:
        """Id of the process on the host that owns the sandbox."""
        return self._sandbox.pid

    def prepare(self, uploads: Sequence[Upload]) -> None:
        """Put in place what is there before anything runs, the working directory included."""
        self.upload(uploads)
        self._sandbox.make_directory(self.workdir)

    def begin(self) -> None:
        """Start the image's ENTRYPOINT and wait until it has handed over to what keeps it alive.

        Raises:
            StartError: it ended instead.

        """
        entrypoint = self.image.details.entrypoint
        if not starts_service(entrypoint):
            return
        log = self._layout.place / SERVICE_LOG
        self._sandbox.serve(
            [*entrypoint, *KEEP_ALIVE],
            log,
            user=self.image.details.user,
            cwd=self.workdir,
            variables=self._variables,
        )
        if not self._sandbox.await_process(KEEP_ALIVE, HANDOVER_TIMEOUT):
            said = printable(tail(log, 20)).strip()
            fact = f"the ENTRYPOINT of {self.name} has ended by itself"
            raise StartError(fact + (f", its last words: {said}" if said else ""), handover_fix(entrypoint))

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

        def take(data: bytes) -> bool:
            parser.feed(data)
            return parser.exit_code is not None

        try:
            exit_code = self._sandbox.run(
                argv,
                take,
                user=self.image.details.user if user is None else user,
                cwd=cwd,
                variables={**self._variables, **env},
                deadline=None if timeout is None else time.monotonic() + timeout,
                now=time.monotonic,
            )
        finally:
            parser.close()
        return exit_code if parser.exit_code is None else parser.exit_code

    def upload(self, uploads: Sequence[Upload]) -> None:
        """Put files in place with one archive, which is unpacked inside."""
        if not uploads:
            return
        with pack(uploads) as archive:
            try:
                self._sandbox.put(archive)
            except CannotExecute as error:
                raise InfrastructureError(f"uploading to {self.name}: {error.fact}") from error

    def _download_archive(self, source: str) -> Iterator[bytes]:
        try:
            return self._sandbox.get([source])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{source} does not exist in {self.name}: {error}") from error
        except CannotExecute as error:
            raise InfrastructureError(f"downloading {source} from {self.name}: {error.fact}") from error

    def is_running(self) -> bool:
        """Tell whether its first process lives."""
        return not self._stopped and self._sandbox.alive()

    def restart(self) -> None:
        """Make the sandbox anew over the files that were written."""
        if self._stopped:
            raise EnvironmentLost(f"the environment {self.name} was removed")
        self._sandbox.close()
        # What an overlay keeps there says that it was not ended properly.
        remove_tree(str(self._layout.place / "w"))
        try:
            self._sandbox = Sandbox(self._layout)
            self.begin()
        except (InfrastructureError, OSError) as error:
            raise EnvironmentLost(f"the environment {self.name} cannot be started again: {error}") from error

    def _kill_all(self) -> str:
        self._sandbox.kill_all()
        self.begin()
        return "its processes were killed, together with all others"

    @contextlib.contextmanager
    def listen(self, on_connection: Callable[[socket.socket], None]) -> Iterator[str]:
        """Listen at the loopback: the host's, or that which the sandbox has for itself."""
        if not self.is_running():
            raise self._sandbox.lost()
        listener = listen_on("127.0.0.1") if self._layout.network else self._sandbox.listen()
        port = port_of(listener)
        with accept_connections(listener, on_connection):
            yield f"127.0.0.1:{port}"

    def exec_prefix(self) -> str:
        """Return an nsenter command: words without quotes, so that a shell can take them out of a variable."""
        flags = "--user --preserve-credentials " if self._layout.host.user_namespace else ""
        variables = " ".join(f"{name}={self._variables[name]}" for name in ("PATH", "HOSTNAME"))
        return (
            f"nsenter --target {processes_of(self.pid)[-1]} {flags}--mount --uts --ipc --pid --cgroup "
            f"env -i --chdir={self.workdir} HOME=/root {variables}"
        )

    def stop(self) -> None:
        """End it, and with it everything that runs in it and all that was written."""
        if self._stopped:
            return
        self._stopped = True
        self._sandbox.close()
        # Where the sandbox was killed, it has not cleared up.
        self._layout.remove_all()
