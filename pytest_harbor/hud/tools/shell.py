"""The interface between an agent's tools and the shell that runs their scripts.

Standard library only: this module is also part of every env.py.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

SCRIPT_LIMIT = 96 * 1024
"""Maximum size of a script in bytes: a Linux argument must be under 128 KiB. Longer input goes to standard input."""
OUTPUT_LIMIT = 32 * 1024 * 1024
"""Maximum size of the output in a ShellResult, in bytes."""


@dataclass(frozen=True)
class ShellResult:
    """The result of a script.

    Attributes:
        exit_code: the exit code; None if the script timed out.
        output: standard output and error, interleaved; see OutputBuffer.
        omitted: the number of bytes omitted from the middle of the output.

    """

    exit_code: int | None
    output: bytes
    omitted: int = 0


Shell = Callable[[str, bytes, float | None], Awaitable[ShellResult]]
"""Runs a script of at most SCRIPT_LIMIT bytes with /bin/sh, as the task's user and in the task's WORKDIR.

Its arguments are the script, its standard input, and a timeout in seconds, after which the script and everything that
it started are killed (None for no timeout). It returns when the script ends, even if a background process holds the
output open.
"""


class OutputBuffer:
    """Collects the output of a ShellResult: all of it up to OUTPUT_LIMIT bytes, otherwise its beginning and end."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Add more output."""
        half = OUTPUT_LIMIT // 2
        self._size += len(data)
        room = max(0, half - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * half:
            del self._tail[:-half]

    def result(self, exit_code: int | None) -> ShellResult:
        """Return the result with the collected output."""
        output = bytes(self._head + self._tail[-(OUTPUT_LIMIT // 2) :])
        return ShellResult(exit_code, output, self._size - len(output))
