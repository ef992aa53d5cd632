"""What to do about builds that fail because a builder is old."""

from __future__ import annotations

import pytest

from pytest_harbor.environment.docker.build import _frontend_fix
from pytest_harbor.image import BuildContext

OLD = "failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 4: "
OFFLINE = 'failed to do request: Head "https://registry-1.docker.io/v2/docker/dockerfile/manifests/1": no such host'
UPDATE = "make `# syntax=docker/dockerfile:1` the first line of the Dockerfile, or update the engine"


@pytest.mark.parametrize(
    "dockerfile, why, fix",
    [
        ("FROM a\nRUN <<EOF\nset -e\nEOF\n", OLD + "unknown instruction: SET", UPDATE),
        ("FROM a\nCOPY <<-'END' /x\n#\nEND\n", OLD + "unknown instruction: END", UPDATE),
        ("FROM a\nCOPY --link x /x\n", OLD + "Unknown flag: link", UPDATE),
        ("FROM a\nADD --checksum=x x /x\n", OLD + "unknown flag: --checksum", UPDATE),
        ("# syntax=own/frontend:2\nFROM a\nRUN <<E\nls\nE\n", OLD + "unknown instruction: LS", "own/frontend:2"),
        ("# escape=`\n# syntax = docker/dockerfile:1\nFROM a\n", OFFLINE, "cannot get the frontend docker/dockerfile"),
        ("FROM a\nRUNN true\n", OLD + "unknown instruction: RUNN", ""),
        ("FROM a\nCOPY --mod x /x\n", OLD + "unknown flag: --mod", ""),
        ("FROM a\nRUN false\n", "process \"/bin/sh -c false\" did not complete successfully: exit code: 1", ""),
    ],
)  # fmt: skip
def test_frontend_fix(tmp_path, dockerfile, why, fix):
    (tmp_path / "Dockerfile").write_text(dockerfile)
    found = _frontend_fix(why, BuildContext(tmp_path))
    assert fix in found
    assert bool(fix) == bool(found)
