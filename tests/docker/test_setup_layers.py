"""An agent's set-up as a layer, where only the engine's older builder is there."""

from __future__ import annotations

import pytest
from harbor_runs import ONE, Harbor, Unique, builds, path_without_docker


def test_once_for_three_attempts_without_the_docker_command(
    harbor: Harbor, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    everything = [line for line in run.all if line["task"] == "ds/worker"]
    assert [line["outcome"] for line in everything] == ["passed"] * 3, run.text
    said = {(harbor.path / line["directory"] / "agent/agent.log").read_text() for line in everything}
    assert len(said) == 1, said
    who, where, service, _token, *rest = said.pop().splitlines()
    assert (who, where, service) == ("worker", "/app", "up")
    assert rest == ["from a file", "worker", "root"]
    assert len({line["image"]["id"] for line in everything}) == 1
    refused = run["refused"]
    assert (refused["outcome"], refused["phase"]) == ("error", "build")
    assert 'exit code 5, last output:\nrefused "ü" $x \\' in refused["reason"]
    assert "Log: " in refused["reason"]
    # Two images of tasks, and one set-up on each.
    assert len(builds(run)) == 4
