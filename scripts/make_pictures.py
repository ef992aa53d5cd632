"""Make the pictures of README.md from real runs of the examples: docs/images/run.svg and docs/images/report.png.

    pip install -e . --group docs
    python scripts/make_pictures.py

Needs a Docker Engine, or Linux, and Chromium for the second picture. The first run on a machine builds images; run the
script twice to see the seconds of later ones. The output is real, except that the lines about the machine (platform,
rootdir, plugins) and the temporary directory in front of paths are removed.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

REPOSITORY = Path(__file__).parents[1]
IMAGES = REPOSITORY / "docs" / "images"
COLUMNS = 112

AGENTS = """\
[[agents]]
name = "oracle"
agent = "oracle"

[[agents]]
name = "tiny"
where = "host"
command = "$HARBOR_EXEC sh -s < '{tiny}'"

[[agents]]
name = "python"
callable = "{python}:solve"
"""


def main() -> None:
    """Make both pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "examples").symlink_to(REPOSITORY / "examples")
        _terminal(directory, IMAGES / "run.svg")
        _report(directory, IMAGES / "report.png")


def _terminal(directory: Path, picture: Path) -> None:
    command = "pytest --harbor-dataset=examples/tasks --harbor-agent=oracle -n 4"
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(Text.from_ansi(f"$ {command}\n{_shown(_output(command, directory), directory)}"))
    svg = console.export_svg(title="pytest-harbor", theme=MONOKAI)
    # Without the web font, since a picture should load nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    picture.write_text(svg, encoding="utf-8")


def _output(command: str, directory: Path) -> str:
    """Run a command in a terminal of its own and return everything it wrote."""
    # In CI there is no live progress, which moves the cursor.
    environ = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "CI": "true", "PATH": _path()}
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=directory, env=environ, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            piece = os.read(screen, 65536)
        except OSError:  # the end, on Linux
            break
        if not piece:
            break
        output += piece
    process.wait()
    return output.decode().replace("\r\n", "\n")


def _shown(output: str, directory: Path) -> str:
    """Return the text that a terminal shows in the end: a carriage return starts a line again."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.split("\n")]
    lines = [line for line in lines if not re.match(r"(\x1b\[\d*m)*(rootdir|plugins|platform)\b", line)]
    return "\n".join(lines).replace(f"{directory}/", "")


def _report(directory: Path, picture: Path) -> None:
    agents = directory / "agents.toml"
    folder = REPOSITORY / "examples" / "agents"
    agents.write_text(AGENTS.format(tiny=folder / "tiny_agent.sh", python=folder / "callable_agent.py"))
    command = f"pytest --harbor-dataset=examples/tasks --harbor-agents={agents} --harbor-html=report.html -n 4"
    subprocess.run(["sh", "-c", command], cwd=directory, env={**os.environ, "PATH": _path()}, check=False)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("Chromium is not on PATH: there is no picture of the report")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1"]
    subprocess.run(
        [chromium, *options, "--window-size=1040,1330", f"--screenshot={picture}", f"file://{directory}/report.html"],
        check=True,
        capture_output=True,
    )


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


if __name__ == "__main__":
    main()
