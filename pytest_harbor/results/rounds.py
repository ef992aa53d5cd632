"""The rounds of a run with `--harbor-attempts=N..M`: rounds.jsonl in its directory, which all its processes share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROUNDS = "rounds.jsonl"


class RoundLog:
    """Which tests have ended, which rounds of attempts are complete, and after which of them the run was decided.

    Args:
        directory: the directory of the run.

    Attributes:
        ended: the node ids of the tests that have ended.
        complete: the number of complete rounds.
        most: the number of rounds that there may be; 0 before the first is complete.
        decided: whether the verdict was certain after these rounds, so that no more are needed.

    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / ROUNDS
        self._offset = 0
        self.ended: set[str] = set()
        self.complete = 0
        self.most = 0
        self.decided = False

    def refresh(self) -> None:
        """Read what was written since the last call."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        lines = data[: data.rfind(b"\n") + 1]
        self._offset += len(lines)
        for line in lines.splitlines():
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError):
                continue

    def _take(self, entry: dict[str, Any]) -> None:
        if "ended" in entry:
            self.ended.add(str(entry["ended"]))
            return
        complete, most, decided = int(entry["complete"]), int(entry["most"]), bool(entry["decided"])
        self.complete, self.most = max(self.complete, complete), most
        self.decided |= decided

    def note_ended(self, node_id: str) -> None:
        """Note that a test has ended, whatever became of it.

        Raises:
            OSError: the file cannot be written.

        """
        self._append({"ended": node_id})

    def note_complete(self, number: int, most: int, *, decided: bool) -> None:
        """Note that a round is complete.

        Args:
            number: number of the round, from 1.
            most: the number of rounds that there may be.
            decided: whether the verdict is certain.

        Raises:
            OSError: the file cannot be written.

        """
        self._append({"complete": number, "most": most, "decided": decided})

    def _append(self, entry: dict[str, Any]) -> None:
        # One write to the end of the file: lines of several processes do not mix.
        with self._file.open("ab", buffering=0) as file:
            file.write(json.dumps(entry).encode() + b"\n")
