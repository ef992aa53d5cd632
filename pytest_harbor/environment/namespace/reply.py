"""The reply to a request that a sandbox handles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from pytest_harbor.errors import CannotExecute


class Reply:
    """One line of JSON on a pipe, written when the request has been handled."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._data = b""

    def read(self) -> bool:
        """Read what is available, or wait for it; return True if the reply is complete."""
        data = os.read(self.descriptor, 1 << 16)
        self._data += data
        return not data or data.endswith(b"\n")

    def result(self, lost_error: Callable[[], Exception]) -> int:
        """Return the exit code.

        Args:
            lost_error: creates the error to raise if there is no reply.

        Raises:
            FileNotFoundError: a path does not exist.
            CannotExecute: the request failed.

        """
        lines = self._data.splitlines()
        if not lines:
            raise lost_error()
        reply = json.loads(lines[0])
        if reply.get("missing"):
            raise FileNotFoundError(reply["error"])
        if "error" in reply:
            raise CannotExecute(reply["error"])
        return int(reply["exit"])

    def wait(self, lost_error: Callable[[], Exception]) -> int:
        """Wait for the reply, close it, and return the exit code as result() does."""
        try:
            while not self.read():
                pass
            return self.result(lost_error)
        finally:
            self.close()

    def close(self) -> None:
        """Close the pipe."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
