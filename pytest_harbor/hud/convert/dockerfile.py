"""Dockerfile.hud: the task's Dockerfile with a few instructions replaced, and the HUD layer after it.

Insertions are enclosed in markers, so that the original can be restored; see image/restore.py.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import posixpath
import re
from dataclasses import dataclass, replace

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor.hud.convert.dockerfile_tail import DEFAULT_SHELL, serve_lines, shell_before
from pytest_harbor.image.adaptation import commented_out, header, terminated
from pytest_harbor.image.dockerfile import Dockerfile, Piece
from pytest_harbor.image.layers import LAYER_ARGUMENT, LAYER_PYTHON, layer_stage
from pytest_harbor.image.restore import BEGIN, END, LAYER_TITLE, NO_LINE_END, SOURCE, is_comment, is_marker
from pytest_harbor.image.words import DockerfileError, split_words, unquote
from pytest_harbor.task.converted import BASE_TITLE, GENERATED

LAYER = "harbor-layer"
CONTEXT = "harbor-context"

_FALLBACK_TOOLS = (
    "RUN apt-get update \\\n"
    " && apt-get install -y --no-install-recommends build-essential curl git \\\n"
    " && rm -rf /var/lib/apt/lists/*\n"
)
# Directly after FROM, so that all environments with the same base share this copy, by far their largest part.
_EARLY = f"COPY --from={LAYER} /hud /hud\n"
_DIRECTORY = "/harbor-context"
_DIRECTIVE = re.compile(r"#[ \t]*(?:syntax|escape|check)[ \t]*=", re.IGNORECASE)
_WILDCARD = re.compile(r"[*?\[\\]")
_WIDTH = 100


@dataclass(frozen=True)
class Original:
    """A task's Dockerfile.

    Attributes:
        text: its content, with bytes that are not UTF-8 as surrogates.
        source: where it is from, for a comment.
        copied: whether COPY can see it; .dockerignore may exclude it.
        mode: its permission bits.

    """

    text: str
    source: str
    copied: bool = True
    mode: int = 0o644


def from_dockerfile(original: Original) -> str:
    """Return the Dockerfile.hud for a task's Dockerfile.

    Raises:
        DockerfileError: it cannot be parsed or converted faithfully; the message says why.

    """
    return _Conversion(original).text()


def from_image(image: str | None) -> str:
    """Return the Dockerfile.hud for tasks without a Dockerfile; the image is their docker_image, if they have one."""
    # /app is the working directory of a task that names no image.
    rest = "" if image else f"{_FALLBACK_TOOLS}WORKDIR /app\n"
    base = f"FROM {image or DEFAULT_IMAGE}\n{_block(_EARLY)}{rest}"
    layer = header(LAYER_TITLE) + serve_lines(layer=LAYER, directories=("/logs",))
    return _block(_layer_argument()) + _block(_layer_stages("\\")) + base + layer


@dataclass
class _Replacement:
    """An instruction as comments that keep its text, and the text to replace it."""

    piece: Piece
    text: str

    def __str__(self) -> str:
        comments = commented_out(self.piece.text)
        return (comments if comments.endswith("\n") else f"{comments}\n") + _block(self.text)


class _Conversion:
    def __init__(self, original: Original) -> None:
        self._original = original
        text = original.text.lstrip("\ufeff")
        # The byte order mark must stay at the very beginning.
        self._byte_order_mark = original.text[: len(original.text) - len(text)]
        self._dockerfile = Dockerfile.parse(text)
        self._escape = self._dockerfile.escape
        self._pieces = self._dockerfile.pieces
        self._froms = [number for number, piece in enumerate(self._pieces) if piece.keyword == "FROM"]
        self._check()

    def _check(self) -> None:
        if not self._froms:
            raise DockerfileError("it has no FROM")
        if LAYER_ARGUMENT in self._original.text:
            raise DockerfileError(f"the name {LAYER_ARGUMENT} is reserved for the conversion")
        for stage in self._dockerfile.stages:
            if stage.name.startswith((LAYER, CONTEXT)):
                raise DockerfileError(
                    f"line {stage.begin.line}: the stage name {stage.name} is reserved for the conversion"
                )

    def text(self) -> str:
        changes = {number: change for number in range(len(self._pieces)) if (change := self._without_generated(number))}
        first = self._stage_of(min(changes)) if changes else len(self._froms) - 1
        stages = _layer_stages(self._escape) + (self._context_stages() if changes else "")
        for number in range(self._froms[first], len(self._pieces)):
            renumbered = self._renumbered(number, first, len(Dockerfile.parse(stages).stages))
            if renumbered:
                changes[number] = renumbered
        out = []
        entrypoint = None
        last = max(number for number, piece in enumerate(self._pieces) if not is_comment(piece))
        for number, piece in enumerate(self._pieces):
            if number == self._froms[first]:
                out.append(_block(stages))
            if number > self._froms[-1] and piece.keyword in ("CMD", "ENTRYPOINT"):
                out.append(commented_out(piece.text))
                entrypoint = piece if piece.keyword == "ENTRYPOINT" else entrypoint
            elif number in changes:
                change = changes[number]
                out.append(str(_Replacement(piece, self._terminated(replace(piece, text=change.text)))))
            elif number == last and terminated(piece, self._escape).rstrip("\n") != piece.text.rstrip("\n"):
                out.append(str(_Replacement(piece, self._terminated(piece))))
            elif is_comment(piece) and is_marker(piece.text.rstrip("\r\n")):
                out.append(commented_out(piece.text))
            else:
                out.append(piece.text)
            if number == self._froms[-1]:
                end = "" if out[-1].endswith("\n") else "\n"
                out.append(end + _block(_EARLY))
        shell = shell_before(self._dockerfile, entrypoint) if entrypoint else DEFAULT_SHELL
        return self._with_head(out) + header(LAYER_TITLE) + serve_lines(entrypoint, shell, LAYER, ("/logs",))

    def _terminated(self, piece: Piece) -> str:
        """Return the text of an instruction, ended so that nothing can become part of it, without trailing comments."""
        text = terminated(piece, self._escape)
        while not piece.heredocs and (comment := re.search(r"\n[ \t\r]*(?:#[^\n]*)?\n$", text)):
            text = text[: comment.start() + 1]
        return text

    def _with_head(self, pieces: list[str]) -> str:
        """Join the converted pieces, and insert the title after the parser directives, which must come first."""
        directives = 0
        while directives < len(pieces) and _DIRECTIVE.match(pieces[directives].lstrip()):
            directives += 1
        before, after = "".join(pieces[:directives]), "".join(pieces[directives:])
        rule = header("").partition("\n")[0]
        title = f"{rule}\n# {BASE_TITLE}\n{SOURCE}{self._original.source}\n{rule}\n"
        end = "" if self._original.text.endswith("\n") else f"{NO_LINE_END}\n"
        body = after if after.endswith("\n") else f"{after}\n"
        return self._byte_order_mark + before + title + _block(_layer_argument()) + body + end

    def _stage_of(self, number: int) -> int:
        return sum(begin <= number for begin in self._froms) - 1

    def _without_generated(self, number: int) -> _Replacement | None:
        """Return the replacement of an instruction that would copy or mount generated files too; None if it would not.

        Raises:
            DockerfileError: there is no equivalent instruction.

        """
        piece = self._pieces[number]
        if piece.keyword == "RUN":
            return self._with_mounts(piece)
        if piece.keyword == "ONBUILD":
            inner = Dockerfile.parse(piece.arguments + "\n").instructions[0]
            if (
                self._stage_of(number) < len(self._froms) - 1
                and inner.keyword in ("COPY", "ADD")
                and self._matching_sources(inner)
            ):
                raise DockerfileError(
                    f"line {piece.line}: ONBUILD {inner.keyword} would also copy files that the conversion adds"
                )
            return None
        if piece.keyword not in ("COPY", "ADD") or dict(piece.flags).get("from") is not None:
            return None
        found = self._matching_sources(piece)
        if not found:
            return None
        if piece.keyword == "ADD":
            self._check_add(piece, found)
        text = re.sub(r"(?is)^(\s*)(?:COPY|ADD)", lambda match: f"{match[1]}COPY --from={CONTEXT}", piece.text, count=1)
        return _Replacement(piece, text)

    def _matching_sources(self, piece: Piece) -> list[str]:
        """Return the sources of an instruction that may match generated files."""
        return [source for source in self._sources(piece) if _may_match_generated(source)]

    def _sources(self, piece: Piece) -> list[str]:
        if piece.words is not None:
            return list(piece.words[:-1])
        words = split_words(piece.operands, self._escape)[:-1]
        # Words with a variable stay as they are: it may expand to anything.
        return [word if "$" in word else unquote(word, self._escape) for word in words if "<<" not in word]

    def _check_add(self, piece: Piece, found: list[str]) -> None:
        """Raise DockerfileError unless COPY would do the same: nothing is downloaded or unpacked."""
        roots = [source for source in found if "$" not in source and _clean(source) == ""]
        if len(roots) != len(self._sources(piece)) or piece.heredocs:
            raise DockerfileError(
                f"line {piece.line}: this ADD may also copy files that the conversion adds; "
                "name the files, or use COPY if nothing is downloaded or unpacked"
            )

    def _with_mounts(self, piece: Piece) -> _Replacement | None:
        text = piece.text
        for name, value in piece.flags:
            options = dict(option.partition("=")[::2] for option in value.split(",")) if name == "mount" else {}
            source = options.get("source") or options.get("src") or "/"
            if name != "mount" or options.get("type", "bind") != "bind" or "from" in options:
                continue
            if _may_match_generated(source):
                changed = text.replace(f"--mount={value}", f"--mount={value},from={CONTEXT}", 1)
                if changed == text:
                    raise DockerfileError(f"line {piece.line}: this mount of the build context cannot be parsed")
                text = changed
        return _Replacement(piece, text) if text != piece.text else None

    def _renumbered(self, number: int, first: int, inserted: int) -> _Replacement | None:
        """Return the replacement of an instruction that refers by number to a stage whose number has changed."""
        piece = self._pieces[number]
        origin = dict(piece.flags).get("from", "") if piece.keyword in ("COPY", "ADD") else ""
        if not origin.isdigit() or int(origin) < first:
            return None
        text = re.sub(rf"--from={origin}(?=\s)", f"--from={int(origin) + inserted}", piece.text, count=1)
        return _Replacement(piece, text)

    def _context_stages(self) -> str:
        """Return stages that produce the original build context, without generated files."""
        original = self._original
        script = [
            "import base64, os, shutil",
            f"for name in {GENERATED!r}:",
            f"    path = os.path.join({_DIRECTORY!r}, name)",
            "    if os.path.isdir(path):",
            "        shutil.rmtree(path)",
            "    elif os.path.exists(path):",
            "        os.remove(path)",
        ]
        content = ""
        if original.copied:
            content = base64.b64encode(original.text.encode("utf-8", "surrogateescape")).decode()
            script += [
                "import sys",
                f"path = os.path.join({_DIRECTORY!r}, 'Dockerfile')",
                "with open(path, 'wb') as file:",
                "    file.write(base64.b64decode(sys.argv[1]))",
                f"os.chmod(path, {original.mode:#o})",
            ]
        joined = f"{self._escape}\n"
        chunks = [content[at : at + _WIDTH] for at in range(0, len(content), _WIDTH)]
        lines = joined.join(json.dumps(line)[1:-1] + "\\n" for line in script)
        return (
            f"FROM {LAYER} AS {CONTEXT}-files\n"
            f"COPY . {_DIRECTORY}/\n"
            f'RUN ["{LAYER_PYTHON}", "-I", "-c", "{joined}{lines}{joined}"'
            + (f', "{joined}{joined.join(chunks)}"' if content else "")
            + "]\n"
            f"FROM scratch AS {CONTEXT}\n"
            f"COPY --from={CONTEXT}-files {_DIRECTORY}/ /\n"
        )


def _may_match_generated(source: str) -> bool:
    """Return True if a source may match a generated file, or the Dockerfile, which the conversion removes."""
    if "$" in source:
        return True
    if "://" in source or source.startswith("git@"):
        return False
    first = _clean(source).partition("/")[0]
    if not first or "\\" in first:
        return True
    names = (*GENERATED, "Dockerfile")
    if _WILDCARD.search(first):
        return any(fnmatch.fnmatchcase(name, first.replace("[^", "[!")) for name in names)
    return first in names


def _clean(source: str) -> str:
    return posixpath.normpath(f"/{source}").strip("/")


def _layer_argument() -> str:
    return f"ARG {LAYER_ARGUMENT}={LAYER}-build\n"


def _layer_stages(escape: str) -> str:
    return f"{layer_stage(f'{LAYER}-build', escape)}FROM ${{{LAYER_ARGUMENT}}} AS {LAYER}\n"


def _block(text: str) -> str:
    return f"{BEGIN}\n{text}{END}\n"
