"""An agent's setup as a layer, built with the engine's legacy builder."""

from __future__ import annotations

import pytest
from harbor_runs import ONE, Harbor, Unique, builds, path_without_docker


def test_setup_runs_once_for_three_attempts(harbor: Harbor, unique: Unique, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_without_docker(harbor.path))
    files = unique(
        "RUN useradd --create-home worker && mkdir /app && chown worker /app",
        "WORKDIR /app",
        "USER worker",
        'ENTRYPOINT ["/bin/sh", "-c", "echo up >/tmp/service; exec \\"$@\\"", "--"]',
    )
    work = "id -un; pwd; cat /tmp/service /token; /app/agent/say; stat -c %U /app /app/agent/say\n"
    harbor.task("worker", work, image=None, files=files)
    harbor.task("refused", test=ONE, image=None, files=unique("RUN touch /refused"))
    agent = harbor.path / "agent"
    agent.mkdir()
    (agent / "say").write_text("#!/bin/sh\necho from a file\n")
    (agent / "say").chmod(0o700)
    (harbor.path / "setup.sh").write_text(
        '#!/bin/bash\nwords=\'"ü" $x \\\'\n[ ! -e /refused ] || { echo "refused $words"; exit 5; }\n'
        "head -c 16 /dev/urandom | od -An -tx1 >/token\n"
    )
    run = harbor.run(
        *("-n2", "--harbor-attempts=3", "--harbor-infra-retries=0", "-v"),
        *("--harbor-agent-setup=setup.sh", f"--harbor-agent-files={agent}:/app/agent"),
    )
    lines = [line for line in run.all if line["task"] == "ds/worker"]
    assert [line["outcome"] for line in lines] == ["passed"] * 3, run.text
    logs = {(harbor.path / line["directory"] / "agent/agent.log").read_text() for line in lines}
    assert len(logs) == 1, logs
    who, where, service, _token, *rest = logs.pop().splitlines()
    assert (who, where, service) == ("worker", "/app", "up")
    assert rest == ["from a file", "worker", "root"]
    assert len({line["image"]["id"] for line in lines}) == 1
    refused = run["refused"]
    assert (refused["outcome"], refused["phase"]) == ("error", "build")
    assert 'exit code 5, last output:\nrefused "ü" $x \\' in refused["reason"]
    assert "Log: " in refused["reason"]
    # Two task images, and one setup layer on each.
    assert len(builds(run)) == 4
