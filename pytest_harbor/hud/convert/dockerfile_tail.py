"""The last instructions of Dockerfile.hud: they record the image's configuration and make it serve its tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_harbor.environment.start_command import starts_service
from pytest_harbor.image.adaptation import KEEP_ALIVE
from pytest_harbor.image.dockerfile import Dockerfile, Piece
from pytest_harbor.image.layers import LAYER_PYTHON

DEFAULT_SHELL = ("/bin/sh", "-c")

# Runs as the image's user, so it writes to a directory that everyone can write to.
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

# Runs as root. HUD's images have these directories, writable by everyone; existing directories stay as they are.
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
    """Return the last instructions of Dockerfile.hud, which make the image serve its tasks.

    They need env.py and tasks/ in the root of the build context, but neither a shell nor a particular user.

    Args:
        entrypoint: the final stage's ENTRYPOINT, which was commented out. Without one, an ENTRYPOINT inherited from the
            base image stays, and must run its arguments, the server.
        shell: the shell that runs an ENTRYPOINT that is not JSON; see shell_before.
        layer: the stage or image that holds the layer.
        directories: the layer's directories that are not in the image yet.

    """
    words: Sequence[str] = ()
    if entrypoint is not None:
        words = entrypoint.words if entrypoint.words is not None else (*shell, entrypoint.arguments)
    lines = [
        # One directory at a time: COPY follows a link at the target itself, but fails on one below it.
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
"""The layer's interpreter, isolated from the image's environment variables."""


def _run(script: str, arguments: Sequence[str] = ()) -> str:
    return f"RUN {json.dumps([*PYTHON, '-c', script, *arguments])}"


def shell_before(dockerfile: Dockerfile, piece: Piece) -> Sequence[str]:
    """Return the shell set by the last SHELL instruction before another instruction, following earlier stages.

    A SHELL in a base image is not taken into account.
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
