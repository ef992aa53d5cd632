"""Trials in the middle of tests that freeze time, forbid sockets and mock whatever else they can."""

import contextlib
import os
import socket
import subprocess
import time

import pytest
import requests

from pytest_harbor import TrialSettings, run_trial
from pytest_harbor.agent import CommandAgent
from pytest_harbor.environment.docker import DockerProvider


class NoSocket(socket.socket):
    def __new__(cls, *args, **kwargs):
        raise RuntimeError("sockets are forbidden")


def forbidden(*args, **kwargs):
    raise RuntimeError("forbidden")


@pytest.fixture
def patched_world(monkeypatch, tmp_path):
    """Yield a function that replaces everything."""
    umask = os.umask(0o022)

    def patch():
        monkeypatch.delattr("requests.sessions.Session.request")
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", forbidden)
        monkeypatch.setattr(requests.sessions.Session, "get_adapter", forbidden)
        monkeypatch.setattr(socket, "socket", NoSocket)
        monkeypatch.setattr(subprocess, "Popen", forbidden)
        monkeypatch.setattr(subprocess, "run", forbidden)
        monkeypatch.setattr(time, "sleep", forbidden)
        monkeypatch.setattr(time, "monotonic", lambda: 1.0)
        monkeypatch.setattr(time, "time", lambda: 1.0)
        for name in list(os.environ):
            monkeypatch.delenv(name)
        monkeypatch.chdir(tmp_path)
        os.umask(0o777)

    yield patch
    monkeypatch.undo()
    os.umask(umask)


def test_trial(provider, patched_world, tmp_path, write_task_files):
    toml = (
        "[agent]\ntimeout_sec = 1\n[environment]\nworkdir = '/srv'\n"
        "[environment.healthcheck]\ncommand = 'mkdir /once || exit 0; exit 1'\n"
    )
    test = "[ $(stat -c %a /srv) = 755 ] && echo 1 >/logs/verifier/reward.txt\n"
    files = {"environment/Dockerfile": f"FROM python:3.12-slim\nRUN echo {tmp_path.name}\n"}
    task = write_task_files(tmp_path / "ds" / "patched", toml, test=test, files=files)
    with contextlib.ExitStack() as stack:
        if provider.name == "docker":
            provider = stack.enter_context(contextlib.closing(DockerProvider()))
            provider.describe()
        patched_world()
        result = run_trial(
            task,
            CommandAgent("sleep 300"),
            settings=TrialSettings(infra_retries=0),
            results=tmp_path / "results",
            provider=provider,
        )
    assert (result.outcome, result.reason) == ("passed", "")
    assert result.agent_timed_out
    assert 1 <= result.phases["agent"] < 60
