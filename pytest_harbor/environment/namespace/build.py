"""Build images from Dockerfiles: each instruction that writes files runs in a sandbox and becomes a layer."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from pytest_harbor._util.logs import BoundedOutput
from pytest_harbor._util.text import one_line
from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.environment import shell_scripts
from pytest_harbor.environment.namespace.copy_instruction import CopyInstruction, copy_from_context, copy_from_stage
from pytest_harbor.environment.namespace.image_record import ImageRecord
from pytest_harbor.environment.namespace.layers import LayerStack
from pytest_harbor.environment.namespace.sandbox import Sandbox
from pytest_harbor.environment.namespace.stage_state import StageState
from pytest_harbor.environment.namespace.stand_in import StandIn
from pytest_harbor.errors import CannotExecute, EnvironmentLost, ImageError
from pytest_harbor.image import BuildContext, ImageDetails
from pytest_harbor.image.dockerfile import Dockerfile, Piece
from pytest_harbor.image.words import DockerfileError, expand, split_blanks, split_words

T = TypeVar("T")

# Image ids are this prefix and the digest of everything that led to the image.
ID_PREFIX = "namespace:"
# Instructions that affect neither an image's files nor how an environment starts.
_IGNORED = {"CMD", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "STOPSIGNAL"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class UnsupportedInstruction(Exception):
    """An instruction needs a container engine; the message says why."""


def build(
    base_stack: LayerStack,
    context: BuildContext,
    ref: str,
    *,
    log: Path,
    timeout: float,
    proxies: Mapping[str, str],
) -> None:
    """Build the image of a context and record it under a name.

    Args:
        base_stack: the stack over the host's root that images without a base of their own start from.
        context: the build context.
        ref: the image's name.
        log: the file to write the build's output to.
        timeout: seconds that the build may take.
        proxies: environment variables of network proxies for RUN, which are not part of the image, as in BuildKit.

    Raises:
        ImageError: an instruction fails or is not supported, or the build takes too long.

    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        builder = _Builder(context, base_stack, file, log, timeout, proxies)
        state = builder.run()
    details = ImageDetails(
        id=f"{ID_PREFIX}{state.stack.id}",
        entrypoint=state.entrypoint,
        workdir=state.workdir,
        user=state.user,
        variables=state.variables,
        notes=tuple(builder.notes),
    )
    ImageRecord(ref, base_stack.base, state.stack.layers, details).write(base_stack.cache)


class _Builder:
    def __init__(
        self,
        context: BuildContext,
        base_stack: LayerStack,
        file: BinaryIO,
        log: Path,
        timeout: float,
        proxies: Mapping[str, str],
    ) -> None:
        self._proxies = proxies
        self._context = context
        self._base_stack = base_stack
        self._file = file
        self._log = log
        self._timeout = timeout
        self._deadline = monotonic() + timeout
        self._built: dict[int, StageState] = {}
        self.notes: list[str] = []

    def run(self) -> StageState:
        """Build the last stage, and the earlier ones that it needs."""
        try:
            dockerfile = Dockerfile.read(self._context.dockerfile)
        except DockerfileError as error:
            raise self._failed(str(error)) from error
        except OSError as error:
            raise self._failed(str(error.strerror)) from error
        self._escape = dockerfile.escape
        self._stages = dockerfile.stages
        self._global: dict[str, str] = _platform_arguments()
        for piece in dockerfile.instructions:
            if piece.keyword == "FROM":
                break
            if piece.keyword != "ARG":
                raise self._failed(f"line {piece.line}: {piece.keyword} comes before FROM")
            self._run_at(piece, partial(self._argument, piece, self._global, self._global))
        if not self._stages:
            raise self._failed("it has no FROM")
        return self._stage(len(self._stages) - 1)

    def _failed(self, reason: str, fix: str = "") -> ImageError:
        return ImageError(f"building {self._context.dockerfile} failed: {reason}", fix, log=self._log)

    def _run_at(self, piece: Piece, action: Callable[[], T]) -> T:
        """Return the result of the action for an instruction; errors name the instruction's line."""
        self._file.write(f"line {piece.line}: {piece.text.strip()}\n".encode("utf-8", "surrogateescape"))
        self._file.flush()
        where = f"line {piece.line}: {piece.keyword} {one_line(piece.arguments, None)[:100]}"
        try:
            return action()
        except UnsupportedInstruction as error:
            raise self._failed(f"{where}: {error}", "this needs a container engine; use Docker") from error
        except (CannotExecute, EnvironmentLost) as error:
            raise self._failed(f"{where}: {error.fact}") from error
        except (DockerfileError, OSError) as error:
            raise self._failed(f"{where}: {error}") from error

    def _stage(self, index: int) -> StageState:
        if index not in self._built:
            self._built[index] = self._build_stage(index)
        return self._built[index]

    def _build_stage(self, index: int) -> StageState:
        stage = self._stages[index]
        state = self._run_at(stage.begin, partial(self._begin_stage, index))
        triggers, state.triggers = state.triggers, []
        for piece in (*triggers, *stage.instructions):
            self._run_at(piece, partial(self._instruction, piece, state, index))
        return state

    def _begin_stage(self, index: int) -> StageState:
        """Return the state after FROM."""
        stage = self._stages[index]
        base = expand(stage.base, self._global, self._escape)
        words = stage.begin.operands.split()
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise DockerfileError("FROM takes an image, and AS with a name after it")
        if not base:
            raise DockerfileError("it does not name an image")
        for name, value in stage.begin.flags:
            requested = expand(value, self._global, self._escape).split("/")
            if name != "platform" or requested[:2] != self._global["TARGETPLATFORM"].split("/"):
                raise UnsupportedInstruction(f"--{name}={value}: this machine is {self._global['TARGETPLATFORM']}")
        earlier = self._find_stage(base, index)
        if earlier is not None:
            state = self._stage(earlier)
            return replace(state, variables=dict(state.variables), arguments={})
        if base == "scratch":
            raise UnsupportedInstruction("images always include this host's own system")
        record = ImageRecord.read(self._base_stack.cache, base)
        if record is not None and not record.stands_in:
            return self._state_of_image(record)
        stand_in = StandIn.create(self._base_stack, base, self._file.write)
        if stand_in.note not in self.notes:
            self.notes.append(stand_in.note)
        return StageState(stand_in.stack, dict(stand_in.variables))

    def _state_of_image(self, record: ImageRecord) -> StageState:
        """Return the state for an image that was built here."""
        stack, details = self._base_stack, record.details
        if not record.usable(stack.cache, stack.base):
            raise UnsupportedInstruction("it was built on an earlier state of this host's system")
        self.notes += [note for note in details.notes if note not in self.notes]
        return StageState(
            replace(stack, layers=record.layers, chain=details.id.removeprefix(ID_PREFIX) if record.layers else ""),
            variables=dict(details.variables),
            workdir=details.workdir,
            user=details.user,
            entrypoint=details.entrypoint,
        )

    def _find_stage(self, name: str, before: int, *, allow_number: bool = False) -> int | None:
        """Return the index of the nearest earlier stage with a name (or number), or None."""
        for index in range(before - 1, -1, -1):
            if self._stages[index].name == name.lower():
                return index
        return int(name) if allow_number and name.isdigit() and int(name) < before else None

    def _instruction(self, piece: Piece, state: StageState, index: int) -> None:
        keyword = piece.keyword
        values = state.values
        if keyword == "LABEL":
            _pairs(piece, values)
        if keyword in _IGNORED:
            return
        if keyword == "RUN":
            self._run(piece, state)
        elif keyword in ("COPY", "ADD"):
            self._copy(piece, state, index)
        elif keyword == "ENV":
            state.set_variables(_pairs(piece, values))
        elif keyword == "ONBUILD":
            state.triggers.append(piece.trigger)
        elif keyword == "ARG":
            self._argument(piece, state.arguments, values)
        elif keyword == "WORKDIR":
            state.workdir = state.absolute(expand(piece.operands, values, self._escape))
            self._make_directories(state, [state.workdir])
        elif keyword == "VOLUME":
            words = piece.words or split_blanks(piece.operands)
            self._make_directories(state, [state.absolute(expand(word, values, self._escape)) for word in words])
        elif keyword == "USER":
            state.user = expand(piece.operands, values, self._escape)
        elif keyword == "SHELL":
            if not piece.words:
                raise DockerfileError("SHELL needs a JSON array")
            state.shell = piece.words
        elif keyword == "ENTRYPOINT":
            state.entrypoint = piece.words if piece.words is not None else (*state.shell, piece.operands)
        else:
            raise UnsupportedInstruction("unknown instruction")

    def _argument(self, piece: Piece, arguments: dict[str, str], values: dict[str, str]) -> None:
        given = dict(self._context.arguments)
        words = split_words(piece.operands, self._escape)
        if not words:
            raise DockerfileError("ARG needs a name")
        for word in words:
            name, equals, default = word.partition("=")
            name = expand(name, {**values, **arguments}, self._escape)
            if not name:
                raise DockerfileError("ARG needs a name before =")
            if name in given:
                arguments[name] = given[name]
            elif equals:
                arguments[name] = expand(default, {**values, **arguments}, self._escape)
            elif name in self._global:
                arguments[name] = self._global[name]

    def _make_directories(self, state: StageState, paths: list[str]) -> None:
        def write(sandbox: Sandbox) -> None:
            for path in paths:
                sandbox.make_directory(path)

        self._add_layer(state, ("directories", *paths), write)

    def _add_layer(self, state: StageState, key: tuple[str, ...], write: Callable[[Sandbox], None]) -> None:
        if monotonic() > self._deadline:
            raise self._timed_out()
        state.stack, cached = state.stack.add_layer(key, write)
        self._file.write(b"  cached\n" if cached else b"")

    def _run(self, piece: Piece, state: StageState) -> None:
        for name, value in piece.flags:
            # An ordinary directory does the job of a cache or a tmpfs.
            supported = (name, value) == ("network", "default") or (
                name == "mount" and ("type=cache" in value or "type=tmpfs" in value)
            )
            if not supported:
                raise UnsupportedInstruction(f"--{name}={value}")
        argv = list(piece.words) if piece.words is not None else [*state.shell, _shell_script(piece)]
        variables = {"PATH": shell_scripts.SYSTEM_PATH, **state.values}
        key = ("run", *argv, "", state.user, state.workdir, *(f"{k}={v}" for k, v in sorted(variables.items())))

        def write(sandbox: Sandbox) -> None:
            output = BoundedOutput(head=0, tail=2000)

            def take(data: bytes) -> bool:
                self._file.write(data)
                output.add(data)
                return False

            code = sandbox.run(
                argv,
                take,
                user=state.user,
                cwd=state.workdir,
                variables={**self._proxies, **variables},
                deadline=lambda: self._deadline,
            )
            if code is None:
                raise self._timed_out()
            if code != 0:
                last = one_line(output.text(), None)[-400:]
                raise DockerfileError(f"it exited with code {code}: {last or '(no output)'}")

        self._add_layer(state, key, write)

    def _timed_out(self) -> ImageError:
        return ImageError(
            f"building {self._context.dockerfile} took longer than {self._timeout:g} s",
            "raise [environment].build_timeout_sec or --harbor-timeout-multiplier",
            log=self._log,
        )

    def _copy(self, piece: Piece, state: StageState, index: int) -> None:
        values = state.values
        flags = {name: value if name == "from" else expand(value, values, self._escape) for name, value in piece.flags}
        copy = self._copy_instruction(piece, flags, state)
        if "from" in flags:
            earlier = self._find_stage(flags["from"], index, allow_number=True)
            if earlier is None:
                raise UnsupportedInstruction(
                    f"--from={flags['from']} is not an earlier stage, and images cannot be copied from"
                )
            key, write = copy_from_stage(copy, self._stage(earlier).stack)
        else:
            if any("://" in source or source.startswith("git@") for source in copy.sources):
                raise UnsupportedInstruction("only local files can be added; download others with RUN curl")
            key, write = copy_from_context(copy, self._context)
        self._add_layer(state, key, write)

    def _copy_instruction(self, piece: Piece, flags: dict[str, str], state: StageState) -> CopyInstruction:
        values = state.values
        words = piece.words or tuple(split_blanks(piece.operands))
        if len(words) < 2:
            raise DockerfileError("it needs at least one source and a destination")
        if unknown := sorted(set(flags) - {"from", "chown", "chmod", "link"}):
            raise UnsupportedInstruction(f"--{unknown[0]}")
        mode = flags.get("chmod", "")
        if mode and not all(c in "01234567" for c in mode):
            raise UnsupportedInstruction(f"--chmod={mode}: only octal numbers are supported")
        *sources, target = (expand(word, values, self._escape) for word in words)
        heredocs = {heredoc.name: heredoc for heredoc in piece.heredocs}
        inline = {}
        for position, source in enumerate(list(sources)):
            name = source.lstrip("0123456789").removeprefix("<<").removeprefix("-")
            if "<<" in source and name in heredocs:
                text = heredocs[name].content
                text = expand(text, values, quotes=False) if heredocs[name].expand else text
                inline[name] = text.encode("utf-8", "surrogateescape")
                sources[position] = name
        return CopyInstruction(
            sources=tuple(sources),
            target=state.absolute(target) + ("/" if target.endswith(("/", "/.")) or target == "." else ""),
            owner=flags.get("chown", ""),
            mode=int(mode, 8) if mode else -1,
            unpack=piece.keyword == "ADD",
            inline=inline,
        )


def _shell_script(piece: Piece) -> str:
    """Return the script of a RUN: its line followed by its heredocs, or the only heredoc itself."""
    if len(piece.heredocs) == 1 and len(piece.operands.split()) == 1:
        heredoc = piece.heredocs[0]
        first = heredoc.content.partition("\n")[0]
        if not first.startswith("#!"):
            return heredoc.content
        # The script names its own interpreter.
        return (
            f"set -e; f=$(mktemp); cat >$f <<'{heredoc.name}'\n{heredoc.content}{heredoc.name}\nchmod 700 $f; $f; rm $f"
        )
    lines = piece.operands
    for heredoc in piece.heredocs:
        lines += f"\n{heredoc.content}{heredoc.name}"
    return lines


def _pairs(piece: Piece, values: dict[str, str]) -> dict[str, str]:
    """Parse the operands of ENV or LABEL: `name=value ...`, or one name and everything after it."""
    words = split_words(piece.operands, piece.escape)
    if words and "=" not in words[0]:
        name, *rest = split_blanks(piece.operands, 1)
        if not rest:
            raise DockerfileError(f"{piece.keyword} needs a name and a value")
        pairs = [[name, rest[0]]]
    else:
        if not all("=" in word for word in words):
            raise DockerfileError(f"{next(word for word in words if '=' not in word)} is not of the form name=value")
        pairs = [word.split("=", 1) for word in words]
    # All values on one line expand with the variables from before the line.
    found = {expand(name, values, piece.escape): expand(value, values, piece.escape) for name, value in pairs}
    if not found or "" in found:
        raise DockerfileError(f"{piece.keyword} needs a name")
    return found


def _platform_arguments() -> dict[str, str]:
    """Return the build arguments that every Dockerfile can use."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    fields = {"PLATFORM": f"linux/{architecture}", "OS": "linux", "ARCH": architecture, "VARIANT": ""}
    return {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in fields.items()}
