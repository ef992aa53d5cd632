"""Which ENTRYPOINTs start services, and what keeps their containers running."""

from __future__ import annotations

import pytest

from pytest_harbor.environment.entrypoint import handover_fix
from pytest_harbor.environment.start_command import keep_alive_arguments, starts_service

SLEEP = ["sleep", "2147483647"]


@pytest.mark.parametrize(
    "entrypoint",
    [
        [],
        ["/bin/bash"],
        ["bash", "-l"],
        ["/bin/bash", "-c"],
        ["bash", "-o", "pipefail", "-c"],
        ["/usr/bin/env", "bash"],
        ["/usr/bin/env", "-S", "bash -eu"],
        ["env", "-i", "LANG=C", "bash"],
        ["python3.11"],
        ["/usr/local/bin/python", "-u"],
        ["python3", "-X", "dev"],
        ["/usr/bin/env", "python3"],
        ["pypy3"],
        ["node"],
        ["/sbin/tini", "--"],
        ["tini", "-g", "--", "bash"],
        ["dumb-init", "--rewrite", "15:3", "--", "sh"],
        ["/usr/bin/dumb-init", "sh", "-c"],
        ["gosu", "dev", "bash"],
        ["tini", "--", "gosu", "dev", "python3"],
        ["/bin/sh", "-c", "/bin/bash"],
        ["/bin/sh", "-c", "exec python3"],
        ["zsh"],
        [""],
        ["sleep", "infinity"],
        ["tini", "--", "tail", "-f", "/dev/null"],
        ["busybox", "sh"],
        ["sudo", "-u", "dev", "bash"],
        ["/bin/sh", "-c", "sleep infinity"],
    ],
)
def test_starts_no_service(entrypoint):
    assert not starts_service(entrypoint)


@pytest.mark.parametrize(
    "entrypoint",
    [
        ["/entrypoint.sh"],
        ["tini", "--", "/entrypoint.sh"],
        ["/usr/bin/env", "bash", "/entrypoint.sh"],
        ["/bin/sh", "-c", "service nginx start"],
        ["sh", "-c", 'start & exec "$@"', "--"],
        ["python3", "-m", "http.server"],
        ["python3", "/app/server.py"],
        ["/entrypoint.sh", "bash"],
        ["xvfb-run", "bash"],
        ["bashful"],
        ["/bin/sh", "-c", "'"],
    ],
)
def test_starts_a_service(entrypoint):
    assert starts_service(entrypoint)


@pytest.mark.parametrize(
    "entrypoint, arguments",
    [
        ([], SLEEP),
        (["/entrypoint.sh"], SLEEP),
        (["/entrypoint.sh", "/bin/bash"], ["-c", "exec sleep 2147483647"]),
        (["xvfb-run", "python3"], ["-c", "import os; os.execvp('sleep', ['sleep', '2147483647'])"]),
    ],
)
def test_keep_alive_arguments(entrypoint, arguments):
    assert keep_alive_arguments(entrypoint) == arguments


def test_fixes():
    assert handover_fix([]) == ""
    assert 'must run its arguments (exec "$@")' in handover_fix(["/entry.sh"], "usage: entry.sh")
    assert "not CRLF" in handover_fix(
        ["/entry.sh"], "[FATAL tini (7)] exec /entry.sh failed: No such file or directory"
    )
