"""Adapted Dockerfiles: the task's own start command is commented out, and a layer is appended for the trial.

The appended instructions need neither a shell nor a particular user. Each is on one line, in a syntax that every
builder knows, so an adapted Dockerfile builds wherever the original does.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pytest_harbor.image.dockerfile import Dockerfile, Piece

# The prefix that HUD puts before each line of a Dockerfile that it comments out.
ORIGINAL = "# [harbor original] "

# Replaces the image's command. Not `sleep infinity`: BusyBox and other small implementations lack it.
KEEP_ALIVE = ("sleep", "2147483647")

# Part of every digest. Increase it when the adaptation of a Dockerfile changes.
VERSION = "1"

ADAPT_LABEL = "pytest-harbor.adapt"
_RULE = f"# {'=' * 60}\n"


@dataclass(frozen=True)
class Adaptation:
    """The changes made to a Dockerfile.

    Attributes:
        name: `lean` or `hud`.
        layer: the image to copy files from.
        command: the image's new CMD, after its ENTRYPOINT.
        early: absolute paths of the layer's directories to copy before the final stage's own instructions, so that all
            images with the same base share the copy.
        late: absolute paths of the directories to copy after them.

    """

    name: str
    layer: str
    command: tuple[str, ...]
    early: tuple[str, ...] = ()
    late: tuple[str, ...] = ("/logs",)

    @property
    def key(self) -> str:
        """Everything in this adaptation that affects the built image, as part of the digest."""
        return json.dumps([VERSION, self.name, self.layer, self.command, self.early, self.late])

    def apply(self, text: str) -> str:
        """Return the adapted text of a Dockerfile.

        A Dockerfile without a stage is returned as it is; the builder will report it.

        Raises:
            DockerfileError: a heredoc is not terminated.

        """
        dockerfile = Dockerfile.parse(text)
        if not dockerfile.stages:
            return text
        # If the task mentions a directory, its own instructions must see it as they would without the layer.
        early = [directory for directory in self.early if directory not in text]
        late = [directory for directory in (*self.early, *self.late) if directory not in early]
        kept, entrypoint = without_start_command(dockerfile, "".join(map(self._copy, early)))
        tail = [
            header(f"pytest-harbor layer ({self.name})"),
            *map(self._copy, late),
            f'LABEL {ADAPT_LABEL}="{self.name}"\n',
            terminated(entrypoint, dockerfile.escape) if entrypoint else "",
            f"CMD {json.dumps(self.command)}\n",
        ]
        return kept + "".join(tail)

    def _copy(self, directory: str) -> str:
        # One directory at a time: COPY follows a link at the target itself, but fails on one below it.
        return f"COPY --from={self.layer} {directory} {directory}\n"


def without_start_command(dockerfile: Dockerfile, first: str = "") -> tuple[str, Piece | None]:
    """Comment out CMD and ENTRYPOINT in the final stage; return the text and the ENTRYPOINT that was in effect.

    The text ends with a newline, outside any instruction.

    Args:
        dockerfile: a Dockerfile with at least one stage.
        first: instructions to insert before the final stage's own.

    """
    begin = max(number for number, piece in enumerate(dockerfile.pieces) if piece.keyword == "FROM")
    lines, entrypoint = [], None
    last = max(number for number, piece in enumerate(dockerfile.pieces) if piece.keyword)
    for number, piece in enumerate(dockerfile.pieces):
        if number > begin and piece.keyword in ("CMD", "ENTRYPOINT"):
            lines.append(commented_out(piece.text))
            entrypoint = piece if piece.keyword == "ENTRYPOINT" else entrypoint
        elif number == last:
            lines.append(terminated(piece, dockerfile.escape))
        else:
            lines.append(piece.text)
        if number == begin and first:
            lines[-1] = terminated(piece, dockerfile.escape)
            lines.append(first)
    text = "".join(lines)
    return (text if text.endswith("\n") else text + "\n"), entrypoint


def header(title: str) -> str:
    """Return the comment block that introduces a section of a Dockerfile."""
    return f"{_RULE}# {title}\n{_RULE}"


def commented_out(text: str) -> str:
    """Return an instruction with each of its lines commented out, so that it can be restored."""
    return "".join(f"{ORIGINAL}{line}" for line in re.split(r"(?<=\n)", text) if line)


def terminated(piece: Piece, escape: str) -> str:
    """Return the text of an instruction, ended so that the text after it cannot become part of it.

    The last instruction of a file may end with a line continuation.
    """
    text = piece.text
    if not piece.heredocs:
        mark = re.escape(escape)
        dangling = re.compile(rf"(?<!{mark}){mark}[ \t]*\r?\n?((?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:[ \t]*(?:#[^\n]*)?)?)$")
        # Removing one may expose another.
        while (cut := dangling.sub(r"\n\1", text)) != text:
            text = cut
    return text if text.endswith("\n") else text + "\n"
