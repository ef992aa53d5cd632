"""Images from Dockerfiles: each instruction that writes files runs in a sandbox, and what it wrote is a layer."""

from __future__ import annotations

import platform
import posixpath
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pytest_harbor._util.logs import BoundedOutput
from pytest_harbor._util.text import printable
from pytest_harbor.environment import shell_scripts as shell
from pytest_harbor.environment.namespace.copying import Copy, copy_from_context, copy_from_stack
from pytest_harbor.environment.namespace.image_record import ImageRecord
from pytest_harbor.environment.namespace.layers import Stack
from pytest_harbor.environment.namespace.sandbox import Sandbox
from pytest_harbor.errors import CannotExecute, EnvironmentLost, ImageError
from pytest_harbor.image import BuildContext, ImageDetails
from pytest_harbor.image.dockerfile import Dockerfile, DockerfileError, Piece, expand, split_words

SHELL = ("/bin/sh", "-c")
# What the id of an image begins with, before the digest over everything that led to it.
CHAIN = "namespace:"
# No effect on the files of an image, nor on how an environment of it starts.
_WITHOUT_EFFECT = {"CMD", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "STOPSIGNAL"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class Refusal(Exception):
    """An instruction that cannot be honoured; the message says why."""


@dataclass
class State:
    """An image in the making: its layers, and what instructions have said of it."""

    stack: Stack
    variables: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    shell: tuple[str, ...] = SHELL
    entrypoint: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """What variables stand for."""
        return {**self.arguments, **self.variables}

    def below(self, path: str) -> str:
        """Return an absolute path."""
        return posixpath.normpath(posixpath.join("/", self.workdir, path))


def build(ground: Stack, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
    """Build the image of a context on top of the host's root, and keep it under a name.

    Raises:
        ImageError: an instruction fails, cannot be honoured, or it took longer than a number of seconds.

    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        builder = _Builder(context, ground, file, log, time.monotonic() + timeout, timeout)
        state = builder.run()
    details = ImageDetails(
        id=f"{CHAIN}{state.stack.chain or ground.base}",
        entrypoint=state.entrypoint,
        workdir=state.workdir,
        user=state.user,
        variables=state.variables,
        notes=tuple(builder.notes),
    )
    ImageRecord(ref, ground.base, state.stack.layers, details).write(ground.cache)


class _Builder:
    def __init__(
        self, context: BuildContext, ground: Stack, file: BinaryIO, log: Path, deadline: float, timeout: float
    ) -> None:
        self._context = context
        self._ground = ground
        self._file = file
        self._log = log
        self._deadline = deadline
        self._timeout = timeout
        self._done: dict[int, State] = {}
        self.notes: list[str] = []

    def run(self) -> State:
        try:
            dockerfile = Dockerfile.read(self._context.dockerfile)
        except DockerfileError as error:
            raise self._failed(str(error)) from error
        except OSError as error:
            raise self._failed(str(error.strerror)) from error
        self._escape = dockerfile.escape
        self._stages = dockerfile.stages
        self._global: dict[str, str] = _platform()
        for piece in dockerfile.instructions:
            if piece.keyword == "FROM":
                break
            if piece.keyword != "ARG":
                raise self._failed(f"line {piece.line}: {piece.keyword} comes before FROM")
            self._at(piece, partial(self._argument, piece, self._global, self._global))
        if not self._stages:
            raise self._failed("it has no FROM")
        return self._stage(len(self._stages) - 1)

    def _failed(self, why: str, fix: str = "") -> ImageError:
        return ImageError(f"building {self._context.dockerfile} failed: {why}", fix, log=self._log)

    def _at(self, piece: Piece, work: Callable[[], None]) -> None:
        """Do an instruction's work; what goes wrong is told with its line."""
        self._file.write(f"line {piece.line}: {piece.text.strip()}\n".encode("utf-8", "surrogateescape"))
        self._file.flush()
        where = f"line {piece.line}: {piece.keyword} {printable(' '.join(piece.arguments.split()))[:100]}"
        try:
            work()
        except Refusal as error:
            raise self._failed(
                f"{where}: {error}", "without a container engine it cannot be had; use Docker"
            ) from error
        except (CannotExecute, EnvironmentLost) as error:
            raise self._failed(f"{where}: {error.fact}") from error
        except (DockerfileError, OSError) as error:
            raise self._failed(f"{where}: {error}") from error

    def _stage(self, index: int) -> State:
        if index not in self._done:
            self._done[index] = self._make_stage(index)
        return self._done[index]

    def _make_stage(self, index: int) -> State:
        stage = self._stages[index]
        state = State(self._ground)

        def begin() -> None:
            nonlocal state
            base = expand(stage.base, self._global, self._escape)
            if not base:
                raise DockerfileError("it names no image")
            for name, value in stage.begin.flags:
                wanted = expand(value, self._global, self._escape).split("/")
                if name != "platform" or wanted[:2] != self._global["TARGETPLATFORM"].split("/"):
                    raise Refusal(f"--{name}={value}: this machine is {self._global['TARGETPLATFORM']}")
            earlier = self._find_stage(base, index)
            if earlier is not None:
                old = self._stage(earlier)
                state = replace(old, variables=dict(old.variables), arguments={})
            elif base == "scratch":
                raise Refusal("there is always this host's own system below")
            elif (record := ImageRecord.read(self._ground.cache, base)) is not None:
                state = self._begun(record)
            else:
                note = f"FROM {base}: this host's own system ({self._ground.host.description}) stands in for it"
                if note not in self.notes:
                    self.notes.append(note)

        self._at(stage.begin, begin)
        for piece in stage.instructions:
            self._at(piece, partial(self._instruction, piece, state, index))
        return state

    def _begun(self, record: ImageRecord) -> State:
        """Begin with an image that was built here."""
        ground, details = self._ground, record.details
        if not record.usable(ground.cache, ground.base):
            raise Refusal("it was built when this host's system was another")
        self.notes += [note for note in details.notes if note not in self.notes]
        return State(
            replace(ground, layers=record.layers, chain=details.id.removeprefix(CHAIN) if record.layers else ""),
            variables=dict(details.variables),
            workdir=details.workdir,
            user=details.user,
            entrypoint=details.entrypoint,
        )

    def _find_stage(self, name: str, before: int, *, numbers: bool = False) -> int | None:
        """Return the number of an earlier stage of a name."""
        for index in range(before - 1, -1, -1):
            if self._stages[index].name == name.lower():
                return index
        return int(name) if numbers and name.isdigit() and int(name) < before else None

    def _instruction(self, piece: Piece, state: State, index: int) -> None:
        keyword = piece.keyword
        if keyword in _WITHOUT_EFFECT:
            return
        values = state.values
        if keyword == "RUN":
            self._run(piece, state)
        elif keyword in ("COPY", "ADD"):
            self._copy(piece, state, index)
        elif keyword == "ENV":
            state.variables.update(_pairs(piece.operands, values, self._escape))
        elif keyword == "ARG":
            self._argument(piece, state.arguments, values)
        elif keyword == "WORKDIR":
            state.workdir = state.below(expand(piece.operands, values, self._escape))
            self._directories(state, [state.workdir])
        elif keyword == "VOLUME":
            words = piece.words or piece.operands.split()
            self._directories(state, [state.below(expand(word, values, self._escape)) for word in words])
        elif keyword == "USER":
            state.user = expand(piece.operands, values, self._escape)
        elif keyword == "SHELL":
            if not piece.words:
                raise DockerfileError("SHELL takes a JSON list")
            state.shell = piece.words
        elif keyword == "ENTRYPOINT":
            state.entrypoint = piece.words if piece.words is not None else (*state.shell, piece.operands)
        else:
            raise Refusal("this instruction is not known")

    def _argument(self, piece: Piece, arguments: dict[str, str], values: dict[str, str]) -> None:
        given = dict(self._context.arguments)
        for word in split_words(piece.operands, self._escape):
            name, equals, default = word.partition("=")
            if name in given:
                arguments[name] = given[name]
            elif equals:
                arguments[name] = expand(default, {**values, **arguments}, self._escape)
            elif name in self._global:
                arguments[name] = self._global[name]

    def _directories(self, state: State, paths: list[str]) -> None:
        def work(sandbox: Sandbox) -> None:
            for path in paths:
                sandbox.make_directory(path)

        self._layer(state, ("directories", *paths), work)

    def _layer(self, state: State, parts: tuple[str, ...], work: Callable[[Sandbox], None]) -> None:
        if time.monotonic() > self._deadline:
            raise self._too_slow()
        state.stack, cached = state.stack.then(parts, work)
        self._file.write(b"  cached\n" if cached else b"")

    def _run(self, piece: Piece, state: State) -> None:
        for name, value in piece.flags:
            # What a cache or a scratch directory is for, an ordinary directory does as well.
            harmless = (name, value) == ("network", "default") or (
                name == "mount" and ("type=cache" in value or "type=tmpfs" in value)
            )
            if not harmless:
                raise Refusal(f"--{name}={value}")
        argv = list(piece.words) if piece.words is not None else [*state.shell, _script(piece)]
        variables = {"PATH": shell.SYSTEM_PATH, **state.arguments, **state.variables}
        parts = ("run", *argv, "", state.user, state.workdir, *(f"{k}={v}" for k, v in sorted(variables.items())))

        def work(sandbox: Sandbox) -> None:
            said = BoundedOutput(head=0, tail=2000)

            def take(data: bytes) -> bool:
                self._file.write(data)
                said.add(data)
                return False

            code = sandbox.run(
                argv,
                take,
                user=state.user,
                cwd=state.workdir,
                variables=variables,
                deadline=self._deadline,
                now=time.monotonic,
            )
            if code is None:
                raise self._too_slow()
            if code != 0:
                last = " ".join(printable(said.text()).split())[-400:]
                raise DockerfileError(f"it ended with exit code {code}: {last or '(no output)'}")

        self._layer(state, parts, work)

    def _too_slow(self) -> ImageError:
        return ImageError(
            f"building {self._context.dockerfile} took longer than {self._timeout:g} s",
            "raise [environment].build_timeout_sec or --harbor-timeout-multiplier",
            log=self._log,
        )

    def _copy(self, piece: Piece, state: State, index: int) -> None:
        values = state.values
        words = piece.words or tuple(split_words(piece.operands, self._escape))
        if len(words) < 2:
            raise DockerfileError("it takes at least a source and a destination")
        flags = {name: expand(value, values, self._escape) for name, value in piece.flags}
        if unknown := sorted(set(flags) - {"from", "chown", "chmod", "link"}):
            raise Refusal(f"--{unknown[0]}")
        mode = flags.get("chmod", "")
        if mode and not all(c in "01234567" for c in mode):
            raise Refusal(f"--chmod={mode}: only octal numbers are supported")
        *sources, target = (word if piece.words else expand(word, values, self._escape) for word in words)
        documents = {heredoc.name: heredoc for heredoc in piece.heredocs}
        inline = {}
        for position, source in enumerate(list(sources)):
            name = source.lstrip("0123456789").removeprefix("<<").removeprefix("-")
            if "<<" in source and name in documents:
                text = documents[name].content
                text = expand(text, values, self._escape, quotes=False) if documents[name].expand else text
                inline[name] = text.encode("utf-8", "surrogateescape")
                sources[position] = name
        copy = Copy(
            sources=tuple(sources),
            target=state.below(target) + ("/" if target.endswith(("/", "/.")) or target == "." else ""),
            owner=flags.get("chown", ""),
            mode=int(mode, 8) if mode else -1,
            unpack=piece.keyword == "ADD",
            inline=inline,
        )
        if "from" in flags:
            earlier = self._find_stage(flags["from"], index, numbers=True)
            if earlier is None:
                raise Refusal(f"--from={flags['from']} is no stage of this file, and images cannot be had")
            parts, work = copy_from_stack(copy, self._stage(earlier).stack)
        else:
            if any("://" in source or source.startswith("git@") for source in copy.sources):
                raise Refusal("only local files can be added; fetch others with RUN curl")
            parts, work = copy_from_context(copy, self._context)
        self._layer(state, parts, work)


def _script(piece: Piece) -> str:
    """Return what the shell of a RUN is given: its line with its documents, or the only document itself."""
    if len(piece.heredocs) == 1 and len(piece.operands.split()) == 1:
        heredoc = piece.heredocs[0]
        first = heredoc.content.partition("\n")[0]
        if not first.startswith("#!"):
            return heredoc.content
        # A script of another language: it is run by what its first line names.
        return (
            f"set -e; f=$(mktemp); cat >$f <<'{heredoc.name}'\n{heredoc.content}{heredoc.name}\nchmod 700 $f; $f; rm $f"
        )
    lines = piece.operands
    for heredoc in piece.heredocs:
        lines += f"\n{heredoc.content}{heredoc.name}"
    return lines


def _pairs(text: str, values: dict[str, str], escape: str) -> dict[str, str]:
    """Read the operands of ENV: `name=value ...`, or one name and everything behind it."""
    words = split_words(text, escape)
    if words and "=" not in words[0]:
        name, _, rest = text.partition(" ")
        return {name: expand(rest.strip(), values, escape)}
    pairs = (word.partition("=") for word in words)
    # All of one line are replaced by what was before it.
    return {expand(name, values, escape): expand(value, values, escape) for name, _, value in pairs}


def _platform() -> dict[str, str]:
    machine = _MACHINES.get(platform.machine(), platform.machine())
    own = {"PLATFORM": f"linux/{machine}", "OS": "linux", "ARCH": machine, "VARIANT": ""}
    return {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in own.items()}
