"""Record examples/cassettes again: `python tests/record_example_cassettes.py`.

The model is scripted and costs nothing; everything else is what a user runs. Both providers must lead to the same model
calls, so either can record.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from model_server import Answer, Call, ModelServer, Tokens

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL = "example-model"

SCRIPT = [
    Answer(
        "Let me look around first.",
        calls=[Call("bash", {"command": "pwd; ls -A"}, id="call_1")],
        tokens=Tokens(812, 0, 31, 0),
    ),
    Answer(
        calls=[
            Call("write_file", {"path": "hello.txt", "content": "Hello, Harbor!\n"}, id="call_2"),
            Call("bash", {"command": "od -c hello.txt"}, id="call_3"),
        ],
        tokens=Tokens(871, 768, 58, 0),
    ),
    Answer("hello.txt exists and contains the expected line.", tokens=Tokens(1004, 768, 12, 0)),
]


def main() -> None:
    """Run the openai agent on an example and record its model calls."""
    with ModelServer(*SCRIPT) as server, tempfile.TemporaryDirectory() as results:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
                f"--harbor-dataset={EXAMPLES / 'tasks'}",
                "--harbor-task=hello-world",
                "--harbor-agent=openai",
                f"--harbor-model={MODEL}",
                "--harbor-proxy=record",
                f"--harbor-cassettes={EXAMPLES / 'cassettes'}",
                f"--harbor-openai-base-url={server.url}/v1",
                f"--harbor-results={results}",
                *sys.argv[1:],
            ],
            cwd=EXAMPLES.parent,
            check=False,
        )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
