"""ENTRYPOINTs of images that start services: how long they may take, and how to fix those that fail."""

from __future__ import annotations

import re
from collections.abc import Sequence

# How long to wait for an ENTRYPOINT to run the keep-alive command before the trial continues without it, in seconds.
HANDOVER_TIMEOUT = 2.0


def handover_fix(entrypoint: Sequence[str], problem: str = "") -> str:
    """Return the fix to suggest for an ENTRYPOINT that ends without running its arguments."""
    if not entrypoint:
        return ""
    if re.search(r"no such file or directory|exec format error", problem, re.IGNORECASE):
        return (
            f"its ENTRYPOINT {list(entrypoint)} must exist, and the first line of a script must name an installed "
            "interpreter and end with LF, not CRLF"
        )
    return f'its ENTRYPOINT {list(entrypoint)} must run its arguments (exec "$@")'
