"""The last lines of Dockerfile.hud: they take note of what an image is like, and make it serve its tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_harbor.environment.entrypoint import starts_service
from pytest_harbor.image.adaptation import KEEP_ALIVE
from pytest_harbor.image.dockerfile import Dockerfile, Piece
from pytest_harbor.image.layers import LAYER_PYTHON

DEFAULT_SHELL = ("/bin/sh", "-c")

# Runs as the image's user, whoever that is: it writes where everybody may.
# Its arguments are the ENTRYPOINT and the two words of KEEP_ALIVE.
_RECORD = (
    "import json, os, sys; "
    "user = [os.getuid(), os.getgid(), os.getgroups()]; "
    "home = os.environ.get('HOME', '/'); "
    "given = os.fsdecode(open('/proc/self/environ', 'rb').read()).split(chr(0)); "
    "variables = [entry.partition('=')[0] for entry in given if entry]; "
    "record = dict(user=user, home=home, workdir=os.getcwd(), variables=sorted(variables), "
    "entrypoint=sys.argv[1:-2], keep_alive=sys.argv[-2:]); "
    "json.dump(record, open('/logs/agent/image.json', 'w'))"
)

# Runs as root. HUD's images have these directories for everybody; those that an image has itself are left alone.
_SEAL = (
    "import os, shutil; "
    "shutil.copyfile('/logs/agent/image.json', '/hud/image.json'); "
    "os.remove('/logs/agent/image.json'); "
    "os.chmod('/hud/image.json', 0o644); "
    "os.chmod('/harbor/tasks', 0o700); "
    "new = [path for path in ('/app', '/workspace') if not os.path.lexists(path)]; "
    "[(os.mkdir(path), os.chmod(path, 0o777)) for path in new]"
)


def serve_lines(
    entrypoint: Piece | None = None,
    shell: Sequence[str] = DEFAULT_SHELL,
    layer: str = "harbor-layer",
    directories: Sequence[str] = ("/hud", "/logs"),
) -> str:
    """Return the instructions that make an image serve its tasks: what Dockerfile.hud ends with.

    They need env.py and tasks/ in the root of the context, and neither a shell nor a certain user.

    Args:
        entrypoint: the ENTRYPOINT of the final stage that was taken back. Without one, an ENTRYPOINT that the image
            inherits stays, and is to run its arguments, the server.
        shell: what a line that is no JSON is run with; see shell_before.
        layer: the stage or image that holds the layer.
        directories: which of its directories are not in the image yet.

    """
    words: Sequence[str] = ()
    if entrypoint is not None:
        words = entrypoint.words if entrypoint.words is not None else (*shell, entrypoint.arguments)
    lines = [
        # Each by itself: a link in place of one is followed, below the root it would be an error.
        *(f"COPY --from={layer} {directory} {directory}" for directory in directories),
        _run(_RECORD, [*(words if starts_service(words) else ()), *KEEP_ALIVE]),
        "USER 0:0",
        "COPY tasks/ /harbor/tasks/",
        "COPY env.py /hud/env.py",
        _run(_SEAL),
        "STOPSIGNAL SIGTERM",
        *(["ENTRYPOINT []"] if entrypoint is not None else []),
        f"CMD {json.dumps([*PYTHON, '/hud/env.py'])}",
    ]
    return "".join(f"{line}\n" for line in lines)


PYTHON = (LAYER_PYTHON, "-I")
"""The layer's interpreter, deaf to the variables of the image."""


def _run(script: str, arguments: Sequence[str] = ()) -> str:
    return f"RUN {json.dumps([*PYTHON, '-c', script, *arguments])}"


def shell_before(dockerfile: Dockerfile, piece: Piece) -> Sequence[str]:
    """Return what a SHELL instruction has made the shell of lines that are no JSON, as seen from an instruction.

    What a base image says of it is not known here.
    """
    stages = dockerfile.stages
    stage = next((one for one in stages if piece in one.instructions), None)
    while stage is not None:
        shells = [one for one in stage.instructions if one.keyword == "SHELL" and one.line < piece.line]
        if shells:
            return shells[-1].words or DEFAULT_SHELL
        base = stage.base.lower()
        earlier = stages[: stages.index(stage)]
        stage = next((one for one in reversed(earlier) if one.name == base), None)
    return DEFAULT_SHELL
