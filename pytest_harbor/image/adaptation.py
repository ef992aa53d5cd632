"""A task's Dockerfile, adapted: its own start taken back, and a layer appended that makes it an environment.

The layer consists of instructions that need neither a shell nor a certain user, each on one line and in the syntax of
every builder, so that an adapted Dockerfile builds wherever the original built.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pytest_harbor.image.dockerfile import Dockerfile, Piece

# What HUD puts before lines of a Dockerfile that it takes back.
ORIGINAL = "# [harbor original] "

# What runs in place of the image's command. Not `infinity`, which small systems' sleep does not know.
KEEP_ALIVE = ("sleep", "2147483647")

# Part of every digest: raised when what is done to a Dockerfile changes.
VERSION = "1"

ADAPT_LABEL = "pytest-harbor.adapt"
_RULE = f"# {'=' * 60}\n"


@dataclass(frozen=True)
class Adaptation:
    """What becomes of a Dockerfile.

    Attributes:
        name: `lean` or `hud`.
        layer: the image whose files are added.
        command: what runs in the image, behind its ENTRYPOINT.
        early: which of its directories are added before the final stage's own instructions, absolute: a copy that
            all images on one base share.
        late: which are added behind them.

    """

    name: str
    layer: str
    command: tuple[str, ...]
    early: tuple[str, ...] = ()
    late: tuple[str, ...] = ("/logs",)

    @property
    def key(self) -> str:
        """All that decides what an adapted Dockerfile builds, as part of its digest."""
        return json.dumps([VERSION, self.name, self.layer, self.command, self.early, self.late])

    def apply(self, text: str) -> str:
        """Return the text of a Dockerfile, adapted; one without a stage is left to its builder's complaint.

        Raises:
            DockerfileError: a heredoc does not end.

        """
        dockerfile = Dockerfile.parse(text)
        if not dockerfile.stages:
            return text
        # A task that has plans of its own for a directory must find it as it would without us.
        early = [directory for directory in self.early if directory not in text]
        late = [directory for directory in (*self.early, *self.late) if directory not in early]
        kept, entrypoint = without_start(dockerfile, "".join(map(self._copy, early)))
        tail = [
            header(f"pytest-harbor layer ({self.name})"),
            *map(self._copy, late),
            f'LABEL {ADAPT_LABEL}="{self.name}"\n',
            terminated(entrypoint, dockerfile.escape) if entrypoint else "",
            f"CMD {json.dumps(self.command)}\n",
        ]
        return kept + "".join(tail)

    def _copy(self, directory: str) -> str:
        # Each directory by itself: a link in place of one is followed, below the root it would be an error.
        return f"COPY --from={self.layer} {directory} {directory}\n"


def without_start(dockerfile: Dockerfile, first: str = "") -> tuple[str, Piece | None]:
    """Return a Dockerfile whose final stage has its CMD and ENTRYPOINT as comments, and the ENTRYPOINT that counted.

    The text ends with a line end, and outside of any instruction.

    Args:
        dockerfile: a Dockerfile with a stage.
        first: instructions that are put in front of the final stage's own.

    """
    begin = max(number for number, piece in enumerate(dockerfile.pieces) if piece.keyword == "FROM")
    lines, entrypoint = [], None
    last = max(number for number, piece in enumerate(dockerfile.pieces) if piece.keyword)
    for number, piece in enumerate(dockerfile.pieces):
        if number > begin and piece.keyword in ("CMD", "ENTRYPOINT"):
            lines.append(commented(piece.text))
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
    """Return the comment that begins a part of a Dockerfile."""
    return f"{_RULE}# {title}\n{_RULE}"


def commented(text: str) -> str:
    """Return the lines of an instruction as comments that keep them."""
    return "".join(f"{ORIGINAL}{line}" for line in re.split(r"(?<=\n)", text) if line)


def terminated(piece: Piece, escape: str) -> str:
    """Return the text of an instruction so that nothing that follows can become part of it.

    The last one of a file may end in the middle of a continuation.
    """
    text = piece.text
    if not piece.heredocs:
        mark = re.escape(escape)
        dangling = re.compile(rf"(?<!{mark}){mark}[ \t]*\r?\n?((?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:[ \t]*(?:#[^\n]*)?)?)$")
        # Each one that goes may leave another.
        while (cut := dangling.sub(r"\n\1", text)) != text:
            text = cut
    return text if text.endswith("\n") else text + "\n"
