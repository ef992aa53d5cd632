"""Run ids."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone


def new_run_id() -> str:
    """Return a new run id: the time in UTC, so that ids sort, and four random digits to avoid collisions."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(2)}"
