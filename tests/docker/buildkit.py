"""What BuildKit itself makes of a build context."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path


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
