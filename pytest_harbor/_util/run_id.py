"""Run ids."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timezone


def new_run_id() -> str:
    """Return a new run id: the time in UTC, so that ids sort, and four random digits to avoid collisions."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(2)}"


def is_run_id(name: str) -> bool:
    """Return True if a name is that of a run, rather than of another directory next to it."""
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[0-9a-f]{4}", name) is not None
