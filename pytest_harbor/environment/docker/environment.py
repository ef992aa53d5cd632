"""One container: the environment of one trial."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from docker import APIClient
from docker.errors import APIError, NotFound

from pytest_harbor._util.text import printable
from pytest_harbor.environment.docker.errors import engine_errors, reason, short
from pytest_harbor.environment.docker.events import EventListener
from pytest_harbor.environment.docker.exec_stream import Deadline, ExecStream
from pytest_harbor.environment.docker.host_access import HostAccess
from pytest_harbor.environment.docker.labels import remove
from pytest_harbor.environment.entrypoint import handover_fix
from pytest_harbor.environment.shell_environment import ShellEnvironment
from pytest_harbor.environment.shell_scripts import OutputParser
from pytest_harbor.environment.tar.pack import Upload, pack
from pytest_harbor.errors import EnvironmentLost, InfrastructureError, StartError
from pytest_harbor.image import Image

SMALL = 1 << 20


class DockerEnvironment(ShellEnvironment):
    """A running container; see pytest_harbor.environment.Environment for what each method promises."""

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
    ) -> None:
        self._client = client
        self._events = events
        self._host_access = host_access
        self.id = container
        self.name = name
        self.image = image
        self.workdir = workdir
        self.notes = tuple(notes)
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
        patience: float,
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
                raise
        stream = ExecStream(raw)
        try:
            in_time = self._pump(stream, exec_id, parser, deadline, Deadline(patience))
        finally:
            stream.close()
            parser.close()
        if not in_time:
            return None
        exit_code = self._exit_code(exec_id) if parser.exit_code is None else parser.exit_code
        self._events.forget(exec_id=exec_id)
        return exit_code

    def _pump(
        self, stream: ExecStream, exec_id: str, parser: OutputParser, deadline: Deadline, begin: Deadline
    ) -> bool:
        """Hand the output over until the command has ended; False when its time ran out first."""
        ended = False
        while True:
            data = stream.read(deadline.left)
            if data is None:
                return True
            if data:
                parser.feed(data)
                if parser.exit_code is not None:
                    return True
            # Without an end in its output the command, or all of its container, was killed.
            elif ended:
                return True
            elif self._ended(exec_id):
                ended = True
            # A busy engine may take longer to begin than the command has; without a beginning there is nothing to kill.
            if deadline.passed and (parser.started or begin.passed):
                return False

    def _ended(self, exec_id: str) -> bool:
        if self._events.alive:
            return self._events.exit_code(exec_id) is not None or self._events.container_died(self.id)
        with engine_errors(f"asking whether a command in {self.name} has ended"):
            return not self._client.exec_inspect(exec_id)["Running"]

    def _exit_code(self, exec_id: str) -> int:
        """Return how a command whose output has ended ended itself."""
        for _ in range(100):
            exit_code = self._events.wait(exec_id, self.id, 0.05)
            if exit_code is not None:
                return exit_code
            # A command that could not be started has no event, one whose container has died may have none.
            if self._events.container_died(self.id) and not self.is_running():
                raise self.lost()
            with engine_errors(f"asking how a command in {self.name} ended"):
                state = self._client.exec_inspect(exec_id)
            if not state["Running"]:
                if not self.is_running():
                    raise self.lost()
                return -1 if state.get("ExitCode") is None else int(state["ExitCode"])
        return -1

    def lost(self) -> InfrastructureError:
        """Return what to say of a container that does not run any more."""
        try:
            state = self._client.inspect_container(self.id)["State"]
            said = self._client.logs(self.id, tail=20).decode("utf-8", "replace")
        except NotFound:
            return EnvironmentLost(
                f"the container {self.name} is gone", "see whether something else removes containers"
            )
        except Exception as error:
            return EnvironmentLost(f"the container {self.name} cannot be asked: {short(error)}")
        why = "it ran out of memory" if state.get("OOMKilled") else f"exit code {state.get('ExitCode')}"
        fact = f"the container {self.name} has stopped by itself ({why})"
        if said.strip():
            fact += f", its last words: {printable(short(said))}"
        if self._executed:
            return EnvironmentLost(fact)
        return StartError(fact, handover_fix(self.image.details.entrypoint))

    def upload(self, uploads: Sequence[Upload]) -> None:
        """Put files in place with one archive."""
        if not uploads:
            return
        with pack(uploads) as archive, engine_errors(f"uploading to {self.name}"):
            # Small archives are in memory; a large one is on disk and must not come into memory as a whole.
            small = archive.seek(0, 2) <= SMALL
            archive.seek(0)
            self._client.put_archive(self.id, "/", archive.read() if small else archive)

    def _archive(self, source: str) -> Iterator[bytes]:
        """Return the Engine's archive of a path, piece by piece; what goes wrong on the way is the Engine's fault."""
        doing = f"downloading {source} from {self.name}"
        missing = None
        with engine_errors(doing):
            try:
                chunks = self._client.get_archive(self.id, source)[0]
            except NotFound as error:
                missing = reason(error)
        if missing is not None:
            raise FileNotFoundError(f"{source} does not exist in {self.name}: {missing}")

        def pieces() -> Iterator[bytes]:
            with engine_errors(doing):
                yield from chunks

        return pieces()

    def is_running(self) -> bool:
        """Ask the Engine whether the container runs."""
        with engine_errors(f"looking at {self.name}"):
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
        # The end of the first process is the end of them all.
        with engine_errors(f"restarting {self.name}"):
            self._client.restart(self.id, timeout=0)
        self._events.forget(container=self.id)
        return "its processes were killed by restarting the container"

    def listen(self, take: Callable[[socket.socket], None]) -> AbstractContextManager[str]:
        """Listen at the gateway of its network, or within it through a relay."""
        return self._host_access.listen(self, self.id, take)

    def exec_prefix(self) -> str:
        """Return a docker command."""
        return f"docker exec -i --user 0 {self.name}"

    def stop(self) -> None:
        """Remove the container."""
        if self._removed:
            return
        remove(self._client, self.id)
        self._removed = True
        self._events.forget(container=self.id)
