"""Record what BuildKit makes of generated ignore files and Dockerfiles, for the tests that run without an engine.

    python scripts/record_buildkit.py

Needs a Docker Engine with debian:bookworm-slim, and buildx. Run it after you change the generators in tests/image/.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "image"), str(TESTS / "docker")]

from buildkit import configuration_by_buildkit, context_seen_by_buildkit  # noqa: E402
from dockerfile_cases import dockerfile  # noqa: E402
from ignore_cases import ignore_file, write_tree  # noqa: E402

SEED = 12
IGNORE_FILES, DOCKERFILES = 120, 80
BASE = "debian:bookworm-slim"


def ignore_answers(root: Path) -> list[dict[str, object]]:
    """Return ignore files with the paths that BuildKit excludes; None where it refuses the file."""
    write_tree(root)
    everything = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    generator = random.Random(SEED)
    answers: list[dict[str, object]] = []
    for _ in range(IGNORE_FILES):
        text = ignore_file(generator)
        (root / ".dockerignore").write_bytes(text.encode())
        kept = context_seen_by_buildkit(root)
        excluded = None if kept is None else sorted(set(everything) - set(kept))
        answers.append({"text": text, "excluded": excluded})
    return answers


def dockerfile_answers(root: Path) -> list[dict[str, object]]:
    """Return Dockerfiles with the configuration of their images; None where BuildKit refuses them."""
    generator = random.Random(SEED)
    answers: list[dict[str, object]] = []
    for _ in range(DOCKERFILES):
        text = dockerfile(generator, BASE)
        (root / "Dockerfile").write_bytes(text.encode())
        answers.append({"text": text, "configuration": configuration_by_buildkit(root)})
    return answers


if __name__ == "__main__":
    for name, record in (("buildkit_ignore", ignore_answers), ("buildkit_dockerfiles", dockerfile_answers)):
        with tempfile.TemporaryDirectory() as directory:
            lines = [json.dumps(answer, ensure_ascii=False) for answer in record(Path(directory))]
        text = "[\n" + ",\n".join(lines) + "\n]\n"
        (TESTS / "image" / f"{name}.json").write_text(text, encoding="utf-8")
