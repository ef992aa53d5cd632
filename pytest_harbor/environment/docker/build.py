"""Builds images from Dockerfiles: with `docker buildx` if the CLI has it, else with the Engine's legacy builder."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO

import requests
import urllib3
from docker import APIClient
from docker.context import ContextAPI
from docker.errors import APIError, DockerException
from docker.utils.build import create_archive

from pytest_harbor._util.logs import tail
from pytest_harbor._util.unpatched import Popen, call, monotonic, wait
from pytest_harbor.environment.docker.errors import engine_errors, error_text
from pytest_harbor.environment.docker.labels import IMAGE_LABEL
from pytest_harbor.errors import ImageError
from pytest_harbor.image import BuildContext

_HEREDOC = re.compile(r"""^\s*(?:RUN|COPY|ADD)\b.*?<<-?["']?\w+""", re.IGNORECASE | re.MULTILINE)
_NEEDS_BUILDKIT = re.compile(
    r"""^\s*(?:(?:RUN|COPY|ADD)\b.*?<<-?["']?\w+
          |RUN\s+(?:--\S+\s+)*?--(?:mount|network|security)\b
          |(?:COPY|ADD)\b.*?\s--(?:link|chmod|parents|exclude|checksum)\b
          |\#\s*syntax\s*=)""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_SYNTAX = re.compile(r"(?:#[^\n]*\n)*?#\s*syntax\s*=\s*(\S+)", re.IGNORECASE)
# How frontends report what they do not know: the first lines of heredocs, and flags.
_UNKNOWN_INSTRUCTION = re.compile(r"unknown instruction|<<", re.IGNORECASE)
_UNKNOWN_FLAG = re.compile(
    r"""unknown\ flag:?\s*-*
        (?:link|chmod|parents|exclude|checksum|keep-git-dir|unpack|mount|network|security|device|start-interval)""",
    re.IGNORECASE | re.VERBOSE,
)
NEWEST_FRONTEND = "`# syntax=docker/dockerfile:1`"


class Builder:
    """A builder of images; several threads may use it at once."""

    def __init__(self) -> None:
        # Those of the run: a test may change them.
        self._variables = dict(os.environ)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def build(self, client: APIClient, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
        """Build a context within a number of seconds.

        Raises:
            ImageError: the build failed or timed out; the log has the builder's output.
            EngineUnavailable: the engine does not answer.

        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            if has_buildx(frozenset(self._variables.items())):
                with context.adapted_dockerfile() as dockerfile:
                    command = _buildx_command(context, dockerfile, ref, self._engine_builder)
                    self._run(command, context, file, log, timeout)
            else:
                _build_with_engine(client, context, ref, file, log, timeout)

    @cached_property
    def _engine_builder(self) -> str:
        """The name of the engine's built-in builder: other builders do not see the engine's images."""
        context = None if self._variables.get("DOCKER_HOST") else ContextAPI.get_context()
        return context.name if context else "default"

    def stop(self) -> None:
        """Kill the builds of the docker CLI, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def _run(self, command: list[str], context: BuildContext, file: BinaryIO, log: Path, timeout: float) -> None:
        process = self._start(command, file, log)
        try:
            code = wait(process, timeout)
        except subprocess.TimeoutExpired:
            raise _timeout_error(timeout, log) from None
        finally:
            with self._lock:
                self._running.discard(process)
                _kill(process)
            process.wait()
        if code != 0:
            why = _last_error(log)
            raise _build_error(why, _frontend_fix(why, context), log)

    def _start(self, command: list[str], file: BinaryIO, log: Path) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise ImageError("the build was canceled", log=log)
            # A new session, so that the CLI and its child processes can be killed together.
            process = Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._variables,
                start_new_session=True,
            )
            self._running.add(process)
        return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@functools.cache
def has_buildx(variables: frozenset[tuple[str, str]] | None = None) -> bool:
    """Return True if the docker CLI is installed and can build with BuildKit.

    Args:
        variables: the CLI's environment variables; None for those of this process.

    """
    given = None if variables is None else dict(variables)
    if shutil.which("docker", path=None if given is None else given.get("PATH")) is None:
        return False
    return call(["docker", "buildx", "version"], given)[0] == 0


def _buildx_command(context: BuildContext, dockerfile: Path, ref: str, builder: str) -> list[str]:
    return [
        *("docker", "buildx", "build"),
        *("--builder", builder),
        *("--load", "--progress", "plain"),
        *("--label", f"{IMAGE_LABEL}=1"),
        *("--tag", ref),
        *(word for name, value in context.arguments for word in ("--build-arg", f"{name}={value}")),
        *("--file", str(dockerfile)),
        str(context.path),
    ]


def _build_with_engine(
    client: APIClient, context: BuildContext, ref: str, file: BinaryIO, log: Path, timeout: float
) -> None:
    deadline = monotonic() + timeout
    with _archive(context) as (archive, dockerfile), engine_errors(f"building {context.dockerfile}"):
        try:
            for message in client.build(
                fileobj=archive,
                custom_context=True,
                dockerfile=dockerfile,
                tag=ref,
                rm=True,
                forcerm=True,
                decode=True,
                labels={IMAGE_LABEL: "1"},
                buildargs=dict(context.arguments),
                # How long the engine may be silent; by default the SDK waits forever.
                timeout=math.ceil(timeout),
            ):
                file.write(str(message.get("stream") or message.get("status", "")).encode())
                if "error" in message:
                    file.write(str(message["error"]).encode())
                    file.flush()
                    raise _build_error(error_text(message["error"]), _buildkit_fix(context), log)
                if monotonic() > deadline:
                    raise _timeout_error(timeout, log)
        except APIError as error:
            file.write(str(error).encode())
            raise _build_error(error_text(error), _buildkit_fix(context), log) from error
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
            raise _timeout_error(timeout, log) from None
        except (TypeError, DockerException) as error:
            raise _build_error(error_text(error), "", log) from error


@contextlib.contextmanager
def _archive(context: BuildContext) -> Iterator[tuple[IO[bytes], str]]:
    """Yield a build context as an archive for the legacy builder, and the Dockerfile's name in it."""
    files = dict.fromkeys(context.files())
    ignored = context.path / ".dockerignore"
    extra = []
    with context.adapted_dockerfile() as dockerfile:
        name = context.name
        patterns = ignored.read_text(encoding="utf-8") if ignored.is_file() else ""
        if dockerfile != context.dockerfile:
            name = f".dockerfile.{secrets.token_hex(8)}"
            # The builder itself removes the Dockerfile and this file from the context if this file excludes them.
            hidden = "" if ".dockerignore" in files else ".dockerignore\n"
            extra = [(name, dockerfile.read_text(encoding="utf-8")), (".dockerignore", f"{patterns}\n{name}\n{hidden}")]
        else:
            files |= dict.fromkeys([name, *([".dockerignore"] if patterns else [])])
        with tempfile.TemporaryFile() as archive:
            create_archive(str(context.path), files=list(files), fileobj=archive, extra_files=extra)
            yield archive, name


def _buildkit_fix(context: BuildContext) -> str:
    text = context.dockerfile.read_text(encoding="utf-8", errors="replace")
    if _NEEDS_BUILDKIT.search(text):
        return "this Dockerfile needs BuildKit: install the docker CLI with its buildx plugin"
    return ""


def _frontend_fix(why: str, context: BuildContext) -> str:
    """Return what to do about a BuildKit whose frontend does not know a Dockerfile's syntax, or cannot get it."""
    text = context.dockerfile.read_text(encoding="utf-8", errors="replace")
    named = _SYNTAX.match(text.lstrip("\ufeff"))
    is_unknown = _UNKNOWN_FLAG.search(why) or (_UNKNOWN_INSTRUCTION.search(why) and _HEREDOC.search(text))
    if is_unknown and named:
        return f"the frontend {named[1]} does not know this syntax: change the first line to {NEWEST_FRONTEND}"
    if is_unknown:
        return (
            "the engine's own frontend does not know this syntax: make "
            f"{NEWEST_FRONTEND} the first line of the Dockerfile, or update the engine"
        )
    if named and re.sub(r"(?::[^:/@]*)?(?:@.*)?$", "", named[1]) in why:
        return (
            f"the engine cannot get the frontend {named[1]}, which the Dockerfile's first line names: pull or load it, "
            "or remove the line if the engine's own frontend suffices"
        )
    return ""


def _build_error(why: str, fix: str, log: Path) -> ImageError:
    return ImageError(f"build failed: {why}", fix, log=log)


def _timeout_error(timeout: float, log: Path) -> ImageError:
    return ImageError(
        f"building the Dockerfile took longer than {timeout:g} s",
        "raise [environment].build_timeout_sec or --harbor-timeout-multiplier",
        log=log,
    )


# What BuildKit's layers put before the reason, as often as there are layers.
_WRAPPERS = re.compile(
    r"^(?:failed to solve(?: with frontend \S+)?: |rpc error: code = \w+ desc = |failed to create LLB definition: )+"
)


def _last_error(log: Path) -> str:
    lines = [line for line in tail(log, 200, 64 * 1024).splitlines() if line.startswith("ERROR")]
    return _WRAPPERS.sub("", error_text(lines[-1].removeprefix("ERROR:"))) if lines else "see the log"
