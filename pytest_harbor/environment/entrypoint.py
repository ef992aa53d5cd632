"""ENTRYPOINTs of images: which of them start services, and how long they may take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

# How long to wait for an ENTRYPOINT to run the keep-alive command before the trial continues without it, in seconds.
HANDOVER_TIMEOUT = 2.0

# An ENTRYPOINT that is only one of these starts no service, and would take the keep-alive command for a script.
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "python", "python3", "node"}


def starts_service(entrypoint: Sequence[str]) -> bool:
    """Return True if an ENTRYPOINT is more than a bare shell or interpreter."""
    if not entrypoint:
        return False
    bare = PurePosixPath(entrypoint[0]).name in SHELLS and all(word.startswith("-") for word in entrypoint[1:])
    return not bare


def handover_fix(entrypoint: Sequence[str]) -> str:
    """Return the fix to suggest for an ENTRYPOINT that ends without running its arguments."""
    return f'its ENTRYPOINT {list(entrypoint)} must run its arguments (exec "$@")' if entrypoint else ""
