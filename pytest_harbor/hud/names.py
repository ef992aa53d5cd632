"""What environments are called in HUD's format."""

from __future__ import annotations

import re

from pytest_harbor.task.taskset import SCENARIO


def base_name(dataset: str) -> str:
    """Return the name of a dataset's environments, as `hud convert` makes it."""
    # A name with a slash is one that was told apart from an equal one, which HUD does not have.
    text = re.sub(r"[ _/]", "-", dataset.strip().lower())
    text = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "", text))
    return f"hud-harbor-{text.strip('-') or 'converted'}"


def scenario(environment: str) -> str:
    """Return the name of an environment's scenario."""
    return f"{environment}:{SCENARIO}"
