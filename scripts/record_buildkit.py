"""Record what BuildKit makes of generated ignore files, for the tests that run without an engine.

    python scripts/record_buildkit.py

Needs a Docker Engine and buildx. Run it after you change the generator in tests/image/ignore_cases.py.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "image"), str(TESTS / "docker")]

from buildkit import context_seen_by_buildkit  # noqa: E402
from ignore_cases import ignore_file, write_tree  # noqa: E402

SEED, COUNT = 12, 120


def ignore_answers(root: Path) -> list[dict[str, object]]:
    """Return ignore files with the paths that BuildKit excludes; None where it refuses the file."""
    write_tree(root)
    everything = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    generator = random.Random(SEED)
    answers: list[dict[str, object]] = []
    for _ in range(COUNT):
        text = ignore_file(generator)
        (root / ".dockerignore").write_bytes(text.encode())
        kept = context_seen_by_buildkit(root)
        excluded = None if kept is None else sorted(set(everything) - set(kept))
        answers.append({"text": text, "excluded": excluded})
    return answers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        lines = [json.dumps(answer, ensure_ascii=False) for answer in ignore_answers(Path(directory))]
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    (TESTS / "image" / "buildkit_ignore.json").write_text(text, encoding="utf-8")
