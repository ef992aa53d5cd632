"""An option, and how a field of HarborConfig states it.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_harbor.plugin.options import parsers

Kind = Literal["one", "path", "many", "paths", "switch"]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: the flag without its dashes.
        text: what the option does; help text without the default.
        parse: turns the text of the flag or the ini key into a value; raises UsageError with the valid values.
        default: the value if neither is given.
        metavar: what stands for the value in the help.
        kind: `one` value, `path` (relative to where it is written), `many` (the flag repeats, the ini key has one
            value per line), `paths` (both) or `switch`.
        recorded: whether rewards depend on it, so that run.json records its value.
        bare: what the flag means without a value; empty if it needs one.
        field: the attribute of HarborConfig that holds the value.

    """

    name: str
    text: str
    parse: Callable[[str, str], Any]
    default: Any
    metavar: str
    kind: Kind
    recorded: bool
    bare: str = ""
    field: str = ""

    @property
    def flag(self) -> str:
        """The flag."""
        return f"--{self.name}"

    @property
    def key(self) -> str:
        """The ini key, which is also the name on `config.option`."""
        return self.name.replace("-", "_")

    @property
    def help(self) -> str:
        """The help text, with the default if it is a value."""
        if self.default is None or self.default is False or self.default in ("", ()):
            return self.text
        default = f"{self.default:g}" if isinstance(self.default, float) else self.default
        return f"{self.text} (default: {default})"


def option(
    name: str,
    text: str,
    parse: Callable[[str, str], Any] = parsers.text,
    default: Any = None,
    metavar: str = "",
    kind: Kind = "one",
    *,
    recorded: bool = False,
    bare: str = "",
) -> Any:
    """Return a field of HarborConfig with its option; see Option for the arguments."""
    return field(metadata={"option": Option(name, text, parse, default, metavar, kind, recorded, bare)})
