"""The processes of a sandbox on this side of its socket: the supervisor, and below it the init process.

The provider talks to init through a socket. Each message is one request and carries three descriptors: the request as
JSON, the source or target of its data, and where to write the reply. Init exits when the socket is closed, so an
environment ends when the process that started it dies, however that happens. The kernel then kills everything else in
the PID namespace, and the supervisor, which stays outside, removes the environment's files.
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

from pytest_harbor._util.users import NoSuchUser, User, find_user
from pytest_harbor.environment.namespace.inside import files, syscalls
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.environment.namespace.inside.filter import install_filter
from pytest_harbor.environment.namespace.inside.mounts import build_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How often to look for a process that is expected to appear, in seconds.
POLL_INTERVAL = 0.02

# tarfile looks these up by name; load them while the host's files are still there.
for encoding in ("ascii", "latin-1", "utf-8"):
    codecs.lookup(encoding)


def main() -> None:
    """Start a sandbox for each message from the launcher; a message carries the sandbox's socket and its lifeline."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # It was inherited through exec; no other program may inherit it.
    control.set_inheritable(False)
    # Nobody waits for the supervisors.
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
    """Create the namespaces, start init in them, wait for it to exit, and clean up."""
    config = json.loads(_receive(host)[0])
    config["pid"] = os.getpid()
    try:
        if config["user_namespace"]:
            _enter_user_namespace()
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        _send(host, {"error": str(error), "step": "namespaces"})
        return
    init = os.fork()
    if init == 0:
        _run_init(host, config)
    # Init alone may hold this end, so that the provider sees it close when init dies.
    host.close()
    _, status = os.waitpid(init, 0)
    # If init was killed rather than told to exit, the environment may be revived over the same files.
    if config["remove"] and os.WIFEXITED(status):
        for path in config["groups"]:
            remove_group(path)
        remove_tree(config["remove"])


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _run_init(host: socket.socket, config: dict[str, Any]) -> None:
    """Set up the sandbox in this process, report its start, and serve requests; never return."""
    step = "begin"
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.hide_command_line()
        step = "namespaces"
        # Not in the supervisor, which must keep seeing the host's files.
        syscalls.unshare(
            syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
        )
        if not config["network"]:
            step = "network"
            syscalls.unshare(syscalls.CLONE_NEWNET)
            syscalls.bring_up_loopback()
        step = "mounts"
        groups = [os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in config["groups"]]
        root = build_root(config)
        syscalls.set_hostname(config["hostname"])
        syscalls.pivot_root(root)
        os.umask(0o022)
        install_filter(single_user=config["user_namespace"])
    except Exception as error:
        _send(host, {"error": str(error), "step": step})
        os._exit(1)
    _send(host, {"pid": config["pid"]})
    try:
        _Init(host, groups, bool(config["user_namespace"])).serve()
    except BaseException:
        os._exit(1)
    os._exit(0)


class _Init:
    """The init process (PID 1) of a sandbox: runs what the provider requests, and reaps every orphan."""

    def __init__(self, host: socket.socket, groups: list[int], single_user: bool) -> None:
        self._host = host
        self._groups = groups
        self._single_user = single_user
        self._replies: dict[int, int] = {}
        self._service: int | None = None
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Serve requests until the provider closes its end of the socket."""
        poll = select.poll()
        poll.register(self._host, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._reap()
                elif descriptor != self._host.fileno():
                    # Output that nobody reads any more, from something that is still running.
                    if not os.read(descriptor, 1 << 16):
                        poll.unregister(descriptor)
                        os.close(descriptor)
                elif not self._serve_request(poll):
                    return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._service:
                self._service = None
            reply = self._replies.pop(pid, None)
            if reply is not None:
                code = os.waitstatus_to_exitcode(status)
                _reply(reply, {"exit": code if code >= 0 else 128 - code})
                os.close(reply)

    def _serve_request(self, poll: select.poll) -> bool:
        """Serve the next request; return False if the socket is closed."""
        message, descriptors = _receive(self._host)
        if not message:
            return False
        body, data, reply = descriptors
        with os.fdopen(body, "rb") as file:
            request = json.load(file)
        try:
            if request["action"] == "kill":
                # -1: everything in this PID namespace except this process.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
                _reply(reply, {"exit": 0})
                return True
            if request["action"] == "drain":
                poll.register(os.dup(data), select.POLLIN)
                return True
            pid = os.fork()
            if pid == 0:
                self._run_child(request, data, reply)
            if request["action"] == "serve":
                self._service = pid
            self._replies[pid] = os.dup(reply)
        except OSError as error:
            _reply(reply, {"error": f"no process could be started: {error.strerror}"})
        finally:
            os.close(data)
            os.close(reply)
        return True

    def _run_child(self, request: dict[str, Any], data: int, reply: int) -> None:
        """Handle a request in this forked process; never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            for group in self._groups:
                os.write(group, b"0")
            syscalls.drop_capabilities()
            code = self._handle(request, data)
        except FileNotFoundError as error:
            _reply(reply, {"error": str(error), "missing": True})
        except (OSError, NoSuchUser, ValueError) as error:
            _reply(reply, {"error": str(error)})
        except BaseException as error:
            _reply(reply, {"error": f"{type(error).__name__}: {error}"})
        os._exit(code)

    def _handle(self, request: dict[str, Any], data: int) -> int:
        """Handle a request and return an exit code; running a program replaces this process."""
        action = request["action"]
        if action in ("run", "serve"):
            self._execute(request, data)
        if action == "await":
            return self._await_process(request["argv"], request["seconds"])
        if action == "isdir":
            return 0 if os.path.isdir(request["path"]) else 1
        if action == "exists":
            return 0 if os.path.lexists(request["path"]) else 1
        if action == "put":
            with os.fdopen(data, "rb") as file:
                files.put(request, file)
        elif action == "get":
            with os.fdopen(data, "wb") as file:
                files.get(request, file)
        elif action == "mkdir":
            files.make_directory(request)
        elif action == "listen":
            _listen(data)
        else:
            return 1
        return 0

    def _execute(self, request: dict[str, Any], data: int) -> None:
        user = find_user(request["user"])
        variables = {"HOME": user.home, **request["variables"]}
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(data, 1)
        os.dup2(data, 2)
        os.chdir("/")
        # If the kernel mapped a single user, everybody is that user.
        if not self._single_user:
            _switch_user(user)
        try:
            os.chdir(request["cwd"])
        except OSError as error:
            raise ValueError(f"working directory {request['cwd']}: {error.strerror}") from error
        try:
            os.execvpe(request["argv"][0], request["argv"], variables)
        except OSError as error:
            raise ValueError(f"{request['argv'][0]}: {error.strerror}") from error

    def _await_process(self, argv: list[str], seconds: float) -> int:
        """Return 0 once a process with these arguments runs or the time is up, 1 if the service exits without one."""
        expected = b"\0".join(os.fsencode(word) for word in argv) + b"\0"
        deadline = time.monotonic() + seconds
        service = self._service
        while time.monotonic() < deadline:
            ended = service is None or not os.path.exists(f"/proc/{service}/exe")
            for pid in os.listdir("/proc"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline" if pid.isdigit() else "", "rb") as file:
                    if file.read(4096) == expected:
                        return 0
            if ended:
                return 1
            time.sleep(POLL_INTERVAL)
        return 0


def _switch_user(user: User) -> None:
    os.setgroups([user.gid, *user.groups])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def _listen(host: int) -> None:
    """Create a listening socket in this network namespace and pass it to a process outside."""
    with socket.socket() as listener, socket.socket(fileno=host) as receiver:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        socket.send_fds(receiver, [b"!"], [listener.fileno()])


def _receive(host: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(host, 1 << 17, 3)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return data, descriptors


def _send(host: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        host.send(json.dumps(message).encode())


def _reply(descriptor: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(message).encode() + b"\n")
