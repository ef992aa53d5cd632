"""run.json: the tasks and options of a run, from which a merge of runs can find missing results."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_harbor._util.files import write_atomically

RUN_JSON = "run.json"

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """The tasks and options of a run.

    Attributes:
        run: id of the run.
        selection: ids of the tasks of all shards.
        tasks: ids of the tasks of this run's shard.
        left_out: ids of the tasks of this shard without a test, because of `-k` and similar options.
        shard: number and count, such as `2/8`; empty if the run was not sharded.
        options: the options that affect rewards.
        pytest_harbor: version of pytest-harbor.
        planned: number of trials by task id.

    """

    run: str
    selection: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    shard: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    pytest_harbor: str = ""
    planned: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> RunRecord:
        """Read run.json from the directory of a run.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not valid, or has a later version.

        """
        file = directory / RUN_JSON
        try:
            data: Any = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {error}") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise ValueError(f"{file}: schema version {version!r} is not from 1 to {SCHEMA_VERSION}")
        lists = [data.get(name, []) for name in ("selection", "tasks", "left_out")]
        texts = [data.get(name, "") for name in ("run", "shard", "pytest_harbor")]
        options, planned = data.get("options", {}), data.get("planned", {})
        valid = all(isinstance(value, list) and all(isinstance(task, str) for task in value) for value in lists)
        valid = valid and isinstance(planned, dict) and all(type(number) is int for number in planned.values())
        if not valid or not all(isinstance(value, str) for value in texts) or not isinstance(options, dict):
            raise ValueError(f"{file}: it is not the record of a run")
        selection, tasks, left_out = map(tuple, lists)
        return cls(texts[0], selection, tasks, left_out, texts[1], options, texts[2], planned)

    def write(self, directory: Path) -> None:
        """Write run.json to the directory of a run.

        Raises:
            OSError: the file cannot be written.

        """
        data = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        write_atomically(directory / RUN_JSON, json.dumps(data, indent=1) + "\n")
