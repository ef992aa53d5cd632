"""What keeps an environment alive, and when an image's own ENTRYPOINT is kept around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

# How long an ENTRYPOINT may take to hand over to the keep-alive before the trial goes on without, in seconds.
HANDOVER_TIMEOUT = 2.0

# An ENTRYPOINT of these alone starts no service, and would take the keep-alive for a script.
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "python", "python3", "node"}


def starts_service(entrypoint: Sequence[str]) -> bool:
    """Tell whether an ENTRYPOINT starts something, and is not just a shell or an interpreter."""
    if not entrypoint:
        return False
    bare = PurePosixPath(entrypoint[0]).name in SHELLS and all(word.startswith("-") for word in entrypoint[1:])
    return not bare


def handover_fix(entrypoint: Sequence[str]) -> str:
    """Return the fix for an ENTRYPOINT that ends instead of running its arguments."""
    return f'its ENTRYPOINT {list(entrypoint)} must run its arguments (exec "$@")' if entrypoint else ""
