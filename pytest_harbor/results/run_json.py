"""What a run was about, beside its results: run.json, so that whoever merges runs can tell what is missing."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECORD = "run.json"

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """What a run was about.

    Attributes:
        run: id of the run.
        selection: ids of the tasks of all shards.
        tasks: ids of those of this run's shard.
        left_out: ids of those of this shard that no test was about, because of `-k` and the like.
        shard: number and count, such as `2/8`; empty where the run was not divided.
        options: what rewards depend on.
        pytest_harbor: version that ran.

    """

    run: str
    selection: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    shard: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    pytest_harbor: str = ""

    @classmethod
    def read(cls, directory: Path) -> RunRecord:
        """Read the record of a run's directory.

        Raises:
            OSError: there is none that can be read.
            ValueError: it is no record, or one of a later version.

        """
        file = directory / RECORD
        try:
            data: Any = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {error}") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise ValueError(f"{file}: schema version {version!r} is not one of 1 to {SCHEMA_VERSION}")
        lists = [data.get(name, []) for name in ("selection", "tasks", "left_out")]
        texts = [data.get(name, "") for name in ("run", "shard", "pytest_harbor")]
        options = data.get("options", {})
        fits = all(isinstance(value, list) and all(isinstance(task, str) for task in value) for value in lists)
        if not fits or not all(isinstance(value, str) for value in texts) or not isinstance(options, dict):
            raise ValueError(f"{file}: it is no record of a run")
        selection, tasks, left_out = map(tuple, lists)
        return cls(texts[0], selection, tasks, left_out, texts[1], options, texts[2])

    def write(self, directory: Path) -> None:
        """Write run.json.

        Raises:
            OSError: it cannot be written.

        """
        directory.mkdir(parents=True, exist_ok=True)
        scratch = directory / f".{RECORD}.tmp"
        data = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        scratch.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        scratch.replace(directory / RECORD)
