"""A shell on this machine for the tools, and helpers to call them."""

import asyncio
import os
import signal
import subprocess

import pytest

from pytest_harbor.hud.tools import OutputBuffer, ToolError

HOSTILE = ["new\nline.txt", "-rf", "quo'te\".txt", "$(touch pwned).txt", "sp ace.txt", "star*.txt", "ümläut.txt"]
PROGRAMS = "cat env find grep head mkdir mv rm sh sleep tail tr touch wc ls printf seq chmod stat"


class LocalShell:
    """Runs scripts in a local directory, with a given PATH."""

    def __init__(self, workdir, path):
        self.workdir = workdir
        self.environment = {"PATH": path, "HOME": str(workdir), "TMPDIR": str(workdir / ".tmp"), "GIVEN": "at first"}
        (workdir / ".tmp").mkdir()

    async def __call__(self, script, stdin, timeout):
        return await asyncio.to_thread(self._run, script, stdin, timeout)

    def _run(self, script, stdin, timeout):
        output = self.workdir.with_name("output")
        given = self.workdir.with_name("input")
        given.write_bytes(stdin)
        with output.open("wb") as out, given.open("rb") as source:
            process = subprocess.Popen(
                ["/bin/sh", "-c", script],
                cwd=self.workdir,
                env=self.environment,
                stdin=source,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        buffer = OutputBuffer()
        buffer.add(output.read_bytes())
        return buffer.result(code)


def directory_of_programs(directory, names, target):
    directory.mkdir()
    for name in names.split():
        (directory / name).symlink_to(target(name))
    return str(directory)


def do(awaitable):
    return asyncio.run(awaitable)


def error(awaitable):
    with pytest.raises(ToolError) as caught:
        do(awaitable)
    return str(caught.value)
