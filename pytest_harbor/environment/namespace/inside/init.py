"""The first process of an environment, and the one above it that clears up.

The host speaks to the first process through a socket: one message a request, with three descriptors (the request as
JSON, where data goes or comes from, where the answer goes). The socket's end is the environment's end: when whoever
made it dies, however, the first process ends, and with it, by the kernel, everything in its PID namespace.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time

from pytest_harbor.environment.namespace.inside import files, syscalls
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.environment.namespace.inside.filter import filter_calls
from pytest_harbor.environment.namespace.inside.mounts import build_root
from pytest_harbor.environment.namespace.inside.users import NoSuchUser, become, find_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HANDOVER_TICK = 0.02

# What tarfile asks for by name, while its files can still be found.
for encoding in ("ascii", "latin-1", "utf-8"):
    codecs.lookup(encoding)


def main() -> None:
    """Start a sandbox for each message of the host, which brings its socket and what tells of its end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # It came through the start of this program, and goes no further.
    control.set_inheritable(False)
    # Nobody waits for the processes that clear up.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors = _receive(control)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _supervise(socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _supervise(host: socket.socket) -> None:
    """Make the namespaces, start the first process in them, wait for its end, clear up."""
    config = json.loads(_receive(host)[0])
    config["pid"] = os.getpid()
    try:
        if config["user_namespace"]:
            _enter_user_namespace(config)
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        _say(host, {"error": str(error), "step": "namespaces"})
        return
    first = os.fork()
    if first == 0:
        _first_process(host, config)
    # The end of the socket must be told by the host's process alone.
    host.close()
    _, status = os.waitpid(first, 0)
    # Where it was killed by somebody, and not ended by the host, its files may be wanted again.
    if config["remove"] and os.WIFEXITED(status):
        for path in config["groups"]:
            remove_group(path)
        remove_tree(config["remove"])


def _enter_user_namespace(config: dict[str, Any]) -> None:
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _first_process(host: socket.socket, config: dict[str, Any]) -> None:
    step = "begin"
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.hide_command_line()
        step = "namespaces"
        # Not above, as whoever clears up stays where the host's files are.
        syscalls.unshare(
            syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
        )
        if not config["network"]:
            step = "network"
            syscalls.unshare(syscalls.CLONE_NEWNET)
            syscalls.raise_loopback()
        step = "mounts"
        groups = [os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in config["groups"]]
        root = build_root(config)
        syscalls.set_hostname(config["hostname"])
        syscalls.pivot_root(root)
        os.umask(0o022)
        filter_calls(one_user=config["user_namespace"])
    except Exception as error:
        _say(host, {"error": str(error), "step": step})
        os._exit(1)
    _say(host, {"pid": config["pid"]})
    try:
        _First(host, groups, bool(config["user_namespace"])).serve()
    except BaseException:
        os._exit(1)
    os._exit(0)


class _First:
    """The first process: starts what the host asks for, and buries the dead."""

    def __init__(self, host: socket.socket, groups: list[int], one_user: bool) -> None:
        self._host = host
        self._groups = groups
        self._one_user = one_user
        self._answers: dict[int, int] = {}
        self._service: int | None = None
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Take requests until the host closes its end."""
        poll = select.poll()
        poll.register(self._host, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._bury()
                elif descriptor != self._host.fileno():
                    # Output that nobody reads any more, of something that goes on.
                    if not os.read(descriptor, 1 << 16):
                        poll.unregister(descriptor)
                        os.close(descriptor)
                elif not self._take(poll):
                    return

    def _bury(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._service:
                self._service = None
            answer = self._answers.pop(pid, None)
            if answer is not None:
                code = os.waitstatus_to_exitcode(status)
                _answer(answer, {"exit": code if code >= 0 else 128 - code})
                os.close(answer)

    def _take(self, poll: select.poll) -> bool:
        message, descriptors = _receive(self._host)
        if not message:
            return False
        body, data, answer = descriptors
        with os.fdopen(body, "rb") as file:
            request = json.load(file)
        try:
            if request["do"] == "kill":
                # Everything in this PID namespace but this process itself.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
                _answer(answer, {"exit": 0})
                return True
            if request["do"] == "drain":
                poll.register(os.dup(data), select.POLLIN)
                return True
            pid = os.fork()
            if pid == 0:
                self._child(request, data, answer)
            if request["do"] == "serve":
                self._service = pid
            self._answers[pid] = os.dup(answer)
        except OSError as error:
            _answer(answer, {"error": f"no process could be started: {error.strerror}"})
        finally:
            os.close(data)
            os.close(answer)
        return True

    def _child(self, request: dict[str, Any], data: int, answer: int) -> None:
        """Do what was asked, in a process of its own; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            for group in self._groups:
                os.write(group, b"0")
            syscalls.drop_capabilities()
            if request["do"] in ("run", "serve"):
                self._execute(request, data)
            elif request["do"] == "put":
                with os.fdopen(data, "rb") as file:
                    files.put(request, file)
                code = 0
            elif request["do"] == "get":
                with os.fdopen(data, "wb") as file:
                    files.get(request, file)
                code = 0
            elif request["do"] == "mkdir":
                files.make_directory(request)
                code = 0
            elif request["do"] == "isdir":
                code = 0 if os.path.isdir(request["path"]) else 1
            elif request["do"] == "listen":
                _listen(data)
                code = 0
            elif request["do"] == "await":
                code = self._await(request["words"], request["seconds"])
        except FileNotFoundError as error:
            _answer(answer, {"error": str(error), "missing": True})
        except (OSError, NoSuchUser, ValueError) as error:
            _answer(answer, {"error": str(error)})
        except BaseException as error:
            _answer(answer, {"error": f"{type(error).__name__}: {error}"})
        os._exit(code)

    def _execute(self, request: dict[str, Any], data: int) -> None:
        user = find_user(request["user"])
        variables = {"HOME": user.home, **request["variables"]}
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(data, 1)
        os.dup2(data, 2)
        os.chdir("/")
        become(user, self._one_user)
        try:
            os.chdir(request["cwd"])
        except OSError as error:
            raise ValueError(f"working directory {request['cwd']}: {error.strerror}") from error
        try:
            os.execvpe(request["argv"][0], request["argv"], variables)
        except OSError as error:
            raise ValueError(f"{request['argv'][0]}: {error.strerror}") from error

    def _await(self, words: list[str], seconds: float) -> int:
        """Wait until a process with these arguments is there (0) or the service has ended without one (1)."""
        wanted = b"\0".join(os.fsencode(word) for word in words) + b"\0"
        deadline = time.monotonic() + seconds
        service = self._service
        while time.monotonic() < deadline:
            ended = service is None or not os.path.exists(f"/proc/{service}/exe")
            for pid in os.listdir("/proc"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline" if pid.isdigit() else "", "rb") as file:
                    if file.read(4096) == wanted:
                        return 0
            if ended:
                return 1
            time.sleep(HANDOVER_TICK)
        return 0


def _listen(host: int) -> None:
    """Make a socket that listens in this network namespace, for a process outside of it."""
    with socket.socket() as listener, socket.socket(fileno=host) as there:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        socket.send_fds(there, [b"!"], [listener.fileno()])


def _receive(host: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(host, 1 << 17, 3)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return data, descriptors


def _say(host: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        host.send(json.dumps(message).encode())


def _answer(descriptor: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(message).encode() + b"\n")
