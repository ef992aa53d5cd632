"""What BuildKit itself makes of a build context."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from dockerfile_cases import configuration


def context_seen_by_buildkit(root: Path) -> list[str] | None:
    """Return the paths of a build context that COPY copies, sorted; None if BuildKit refuses the ignore file."""
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /context/\n", encoding="utf-8")
    command = ["docker", "buildx", "build", "--builder", "default", "--output", "type=tar,dest=-", str(root)]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        assert b"excludepatterns" in result.stderr or b"exclusion pattern" in result.stderr, result.stderr.decode()
        return None
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        names = [member.name.rstrip("/").partition("/")[2] for member in archive if member.name.startswith("context/")]
    return sorted(name for name in names if name)


def configuration_by_buildkit(root: Path) -> dict[str, Any] | None:
    """Return what a Dockerfile sets, in the form of dockerfile_cases.configuration(); None if BuildKit refuses it."""
    command = ["docker", "buildx", "build", "--builder", "default", "--load", "--iidfile", str(root / "iid"), str(root)]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        assert b"failed to solve" in result.stderr, result.stderr.decode()
        return None
    image = (root / "iid").read_text()
    inspected = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=True)
    subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)
    config = json.loads(inspected.stdout)[0]["Config"]
    variables = dict(entry.partition("=")[::2] for entry in config["Env"] or ())
    return configuration(variables, config["WorkingDir"], config["User"], config["Entrypoint"] or ())
