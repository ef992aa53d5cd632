"""A container as the environment of one trial."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO

from docker import APIClient
from docker.errors import APIError, NotFound

from pytest_harbor.environment.docker.errors import REMOVED_FIX, engine_errors, error_text
from pytest_harbor.environment.docker.events import EventListener
from pytest_harbor.environment.docker.exec_stream import Deadline, ExecStream
from pytest_harbor.environment.docker.host_access import HostAccess
from pytest_harbor.environment.docker.labels import remove_container
from pytest_harbor.environment.entrypoint import handover_fix
from pytest_harbor.environment.shell_environment import ShellEnvironment
from pytest_harbor.environment.shell_scripts import OutputParser
from pytest_harbor.errors import CannotExecute, EnvironmentLost, InfrastructureError, StartError
from pytest_harbor.image import Image

# Archives up to this size, in bytes, are sent from memory.
IN_MEMORY_SIZE = 1 << 20


class DockerEnvironment(ShellEnvironment):
    """A running container; see pytest_harbor.environment.Environment for the methods."""

    provider = "docker"

    def __init__(
        self,
        client: APIClient,
        events: EventListener,
        host_access: HostAccess,
        container: str,
        name: str,
        image: Image,
        workdir: str,
        notes: list[str],
        proxies: Mapping[str, str],
    ) -> None:
        self._client = client
        self._events = events
        self._host_access = host_access
        self.id = container
        self.name = name
        self.image = image
        self.workdir = workdir
        self.notes = tuple(notes)
        self.kept: tuple[str, ...] = ()
        self.proxies = proxies
        self._removed = False

    def _run(
        self,
        argv: list[str],
        parser: OutputParser,
        *,
        user: str | None,
        cwd: str,
        env: Mapping[str, str],
        timeout: float | None,
        start_timeout: float,
    ) -> int | None:
        deadline = Deadline(timeout)
        self._events.open()
        with engine_errors(f"running a command in {self.name}"):
            try:
                created = self._client.exec_create(self.id, argv, user=user or "", workdir=cwd, environment=dict(env))
                exec_id = created["Id"]
                raw = self._client.exec_start(exec_id, socket=True)
            except APIError as error:
                if error.status_code == 409:
                    raise self.lost() from error
                if error.status_code == 400:
                    raise CannotExecute(error_text(error)) from error
                raise
        stream = ExecStream(raw)
        try:
            ended = self._pump(stream, exec_id, parser, deadline, Deadline(start_timeout))
        finally:
            stream.close()
            parser.close()
        if not ended:
            return None
        exit_code = self._exit_code(exec_id) if parser.exit_code is None else parser.exit_code
        self._events.forget(exec_id=exec_id)
        return exit_code

    def _pump(
        self, stream: ExecStream, exec_id: str, parser: OutputParser, deadline: Deadline, start_deadline: Deadline
    ) -> bool:
        """Parse the output until the command ends; return False if its time runs out first."""
        was_killed = False
        while True:
            data = stream.read(deadline.left)
            if data is None:
                return True
            if data:
                parser.feed(data)
                if parser.exit_code is not None:
                    return True
            # Without an end marker, the command or its whole container was killed. Read once more for remaining output.
            elif was_killed:
                return True
            elif self._has_ended(exec_id):
                was_killed = True
            # A busy engine may need longer to start a command than the command may take. Until it starts, there is no
            # process to kill.
            if deadline.passed and (parser.started or start_deadline.passed):
                return False

    def _has_ended(self, exec_id: str) -> bool:
        if self._events.alive:
            return self._events.exit_code(exec_id) is not None or self._events.container_died(self.id)
        with engine_errors(f"inspecting a command in {self.name}"):
            return not self._client.exec_inspect(exec_id)["Running"]

    def _exit_code(self, exec_id: str) -> int:
        """Return the exit code of a command whose output has ended; -1 if the Engine does not know it."""
        for _ in range(100):
            exit_code = self._events.wait(exec_id, self.id, 0.05)
            if exit_code is not None:
                return exit_code
            # A command that could not start has no event; one whose container died may have none.
            if self._events.container_died(self.id) and not self.is_running():
                raise self.lost()
            with engine_errors(f"inspecting a command in {self.name}"):
                state = self._client.exec_inspect(exec_id)
            if not state["Running"]:
                if not self.is_running():
                    raise self.lost()
                return -1 if state.get("ExitCode") is None else int(state["ExitCode"])
        return -1

    def lost(self) -> InfrastructureError:
        """Return the error for a container that is no longer running."""
        try:
            state = self._client.inspect_container(self.id)["State"]
            output = self._client.logs(self.id, tail=20).decode("utf-8", "replace")
        except NotFound:
            return EnvironmentLost(f"container {self.name} is gone", REMOVED_FIX)
        except Exception as error:
            return EnvironmentLost(f"container {self.name} cannot be inspected: {error_text(error)}")
        why = "it ran out of memory" if state.get("OOMKilled") else f"exit code {state.get('ExitCode')}"
        fact = f"container {self.name} stopped by itself ({why})"
        if output.strip():
            fact += f", last output: {error_text(output)}"
        if self._has_executed:
            return EnvironmentLost(fact)
        return StartError(fact, handover_fix(self.image.details.entrypoint, output))

    def _put_archive(self, archive: IO[bytes], parent: str) -> None:
        with engine_errors(f"uploading to {self.name}"):
            # A large archive is on disk and must not be read into memory as a whole.
            is_small = archive.seek(0, 2) <= IN_MEMORY_SIZE
            archive.seek(0)
            self._client.put_archive(self.id, parent, archive.read() if is_small else archive)

    def _exists(self, path: str) -> bool:
        with engine_errors(f"looking for {path} in {self.name}"):
            # The SDK has no method for this request.
            url = f"{self._client.base_url}/v{self._client.api_version}/containers/{self.id}/archive"
            return self._client.head(url, params={"path": path}, timeout=self._client.timeout).ok

    def _download_archive(self, source: str) -> Iterator[bytes]:
        """Return the Engine's archive of a path in pieces; errors while it is read are the Engine's."""
        action = f"downloading {source} from {self.name}"
        missing = None
        with engine_errors(action):
            try:
                chunks = self._client.get_archive(self.id, source)[0]
            except NotFound as error:
                missing = error_text(error)
        if missing is not None:
            raise FileNotFoundError(f"{source} does not exist in {self.name}: {missing}")

        def pieces() -> Iterator[bytes]:
            with engine_errors(action):
                yield from chunks

        return pieces()

    def is_running(self) -> bool:
        """Return True if the Engine reports the container as running."""
        with engine_errors(f"inspecting {self.name}"):
            try:
                return bool(self._client.inspect_container(self.id)["State"]["Running"])
            except NotFound:
                return False

    def restart(self) -> None:
        """Start the stopped container."""
        try:
            with engine_errors(f"starting {self.name} again"):
                self._client.start(self.id)
        except EnvironmentLost:
            raise
        except InfrastructureError as error:
            raise EnvironmentLost(error.fact) from error
        self._events.forget(container=self.id)

    def _kill_all(self) -> str:
        # When the first process ends, the kernel kills all others.
        with engine_errors(f"restarting {self.name}"):
            self._client.restart(self.id, timeout=0)
        self._events.forget(container=self.id)
        return "its processes were killed by restarting the container"

    def listen(self, on_connection: Callable[[socket.socket], None]) -> AbstractContextManager[str]:
        """Listen on the gateway of the container's network, or inside the network through a relay."""
        return self._host_access.listen(self, self.id, on_connection)

    def exec_prefix(self) -> str:
        """Return a `docker exec` command."""
        return f"docker exec -i --user 0 {self.name}"

    def stop(self) -> None:
        """Remove the container."""
        if self._removed:
            return
        remove_container(self._client, self.id)
        self._removed = True
        self._events.forget(container=self.id)
