"""A local registry, as packaged by Debian, and ways to break it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from harbor_runs import wait_for

PROGRAM = shutil.which("docker-registry") or shutil.which("registry")

# The user `harbor` with the password `secret`; the registry only accepts bcrypt.
USERS = "harbor:$2b$04$3migZ4rneWVkVbJGnelbSO0734A6Ojde1PAw7WQmHjO8B7pXLPY1e\n"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """A registry with its own directory, on a free port of the loopback interface.

    Attributes:
        address: host and port.

    """

    def __init__(self, directory: Path, *, users: bool = False) -> None:
        assert PROGRAM
        directory.mkdir()
        self._blobs = directory / "data/docker/registry/v2/blobs/sha256"
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "formatter": "text"},
            "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
            "http": {"addr": "127.0.0.1:0", "secret": "not a secret"},
        }
        if users:
            (directory / "users").write_text(USERS)
            config["auth"] = {"htpasswd": {"realm": "harbor", "path": str(directory / "users")}}
        # JSON is valid YAML.
        (directory / "config.yml").write_text(json.dumps(config))
        log = directory / "log.txt"
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", str(directory / "config.yml")], stdout=file, stderr=subprocess.STDOUT
            )

        def listening() -> re.Match[str] | None:
            if self._process.poll() is not None:
                pytest.fail(f"{PROGRAM} does not start: {log.read_text()}")
            return re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())

        self.address: str = wait_for(listening, "the registry listens").group(1)

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted."""
        with urllib.request.urlopen(f"http://{self.address}/v2/{repository}/tags/list") as answer:
            return sorted(json.load(answer)["tags"])

    def layers(self, repository: str, tag: str) -> list[str]:
        """Return the digests of an image's layers."""
        request = urllib.request.Request(f"http://{self.address}/v2/{repository}/manifests/{tag}")
        request.add_header("Accept", MANIFEST)
        with urllib.request.urlopen(request) as answer:
            return [layer["digest"].partition(":")[2] for layer in json.load(answer)["layers"]]

    def corrupt(self, digest: str) -> None:
        """Invert the last byte of a layer."""
        file = self._blobs / digest[:2] / digest / "data"
        data = bytearray(file.read_bytes())
        data[-1] ^= 255
        file.write_bytes(data)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
