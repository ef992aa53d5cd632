"""Write the table of options in docs/reference.md from the option table of the plugin.

    python scripts/update_reference.py

Run it after you add an option or change a help text; tests/docs/test_reference.py fails until you do.
"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_harbor.plugin.options.table import OPTIONS

REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"

_BLOCK = re.compile(r"(?<=<!-- generated: options -->\n).*?(?=<!-- end -->)", re.DOTALL)


def options_table() -> str:
    """Return the options as a Markdown table."""
    rows = ["| flag | default | meaning |", "| --- | --- | --- |"]
    for option in OPTIONS:
        value = f"[={option.metavar}]" if option.bare else f"={option.metavar}"
        flag = f"--{option.name}{value}" if option.metavar else f"--{option.name}"
        default = _default(option.default)
        rows.append(f"| `{_cell(flag)}` | {default} | {_cell(option.text)} |")
    return "\n" + "\n".join(rows) + "\n\n"


def updated(text: str) -> str:
    """Return the reference page with a current table."""
    return _BLOCK.sub(lambda _: options_table(), text)


def _default(value: object) -> str:
    if value is None or value == "" or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    REFERENCE.write_text(updated(REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")
