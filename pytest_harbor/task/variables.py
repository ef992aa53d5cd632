"""`${VAR}` and `${VAR:-default}` in a task's env tables, replaced from the host's environment as in Harbor."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class MissingVariable(Exception):
    """A task needs an environment variable of the host that is not set and has no default."""

    def __init__(self, name: str, place: str, key: str) -> None:
        super().__init__(f"{place} {key} needs ${{{name}}}, which is not set on the host")
        self.name = name


def resolve_variables(table: Mapping[str, str], place: str, host: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an env table with its references replaced.

    Args:
        table: names and values, as in task.toml.
        place: the table's name there, for messages.
        host: the host's environment variables; None for those of this process.

    Raises:
        MissingVariable: a reference without a default names a variable that is not set.

    """
    source = os.environ if host is None else host

    def fill(key: str, value: str) -> str:
        def one(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            found = source.get(name)
            if found is None:
                found = default
            if found is None:
                raise MissingVariable(name, place, key)
            return found

        return _REFERENCE.sub(one, value)

    return {key: fill(key, value) for key, value in table.items()}
