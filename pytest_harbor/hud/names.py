"""The names of environments and scenarios in HUD's format."""

from __future__ import annotations

import re

from pytest_harbor.task.taskset import SCENARIO


def base_name(dataset: str) -> str:
    """Return the base name of a dataset's environments, as `hud convert` derives it."""
    # A slash distinguishes datasets with equal names; HUD has no such names.
    text = re.sub(r"[ _/]", "-", dataset.strip().lower())
    text = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "", text))
    return f"hud-harbor-{text.strip('-') or 'converted'}"


def scenario(environment: str) -> str:
    """Return the name of an environment's scenario."""
    return f"{environment}:{SCENARIO}"
