"""What the tools of an agent run their scripts with.

Standard library only: the text of this module is also part of every env.py.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

SCRIPT_LIMIT = 96 * 1024
"""Bytes of a script at most: Linux takes no argument of 128 KiB. What is longer comes on standard input."""
OUTPUT_LIMIT = 32 * 1024 * 1024
"""Bytes of a script's output that a shell hands over."""


@dataclass(frozen=True)
class ShellResult:
    """What a script left.

    Attributes:
        exit_code: its exit code; None when its time ran out.
        output: what it printed, standard output and error as they came; see Kept.
        left_out: bytes that are missing in the middle of the output.

    """

    exit_code: int | None
    output: bytes
    left_out: int = 0


Shell = Callable[[str, bytes, float | None], Awaitable[ShellResult]]
"""Runs a script of at most SCRIPT_LIMIT bytes with /bin/sh, as the task's user and in the task's WORKDIR.

Its arguments are the script, its standard input, and the seconds after which it and all it started are killed (None: as
long as it takes). It returns when the script has ended, also while something in the background holds the output open.
"""


class Kept:
    """Collects output for a ShellResult: all of it up to OUTPUT_LIMIT bytes, else its beginning and its end."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take more output."""
        half = OUTPUT_LIMIT // 2
        self._size += len(data)
        room = max(0, half - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * half:
            del self._tail[:-half]

    def result(self, exit_code: int | None) -> ShellResult:
        """Return what was collected."""
        output = bytes(self._head + self._tail[-(OUTPUT_LIMIT // 2) :])
        return ShellResult(exit_code, output, self._size - len(output))
