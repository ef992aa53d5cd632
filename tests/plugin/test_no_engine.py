"""No engine answers when a run starts: one usage error with a cure, before anything runs."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_harbor.environment.docker import address
from pytest_harbor.environment.docker.address import EngineAddress
from pytest_harbor.environment.docker.errors import reason_of
from pytest_harbor.errors import EngineUnavailable

NAMESPACE = "use --harbor-environment=namespace"


def refused(project, *args: object):
    """Run a task, and check that one message ends the run before it begins."""
    project.task("tb2/a")
    project.task("tb2/b")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *args)
    assert outcome.ret == 4, str(outcome)
    assert len([line for line in outcome.err.splitlines() if line.strip()]) == 1, outcome.err
    outcome.shows_no_bug()
    outcome.lacks("urllib3", "HTTPConnection", "Max retries")
    return outcome


@pytest.mark.parametrize("choice", ["auto", "docker"])
def test_closed_port(project, monkeypatch, choice):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening, so connections are refused
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("DOCKER_HOST", url)
        outcome = refused(project, f"--harbor-environment={choice}")
    outcome.has(
        f"ERROR: no Docker Engine answers at {url} (DOCKER_HOST): connection refused; start it or unset DOCKER_HOST"
    )
    outcome.has(NAMESPACE)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_no_socket(project, monkeypatch, arguments):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *arguments, subprocess=True)
    assert outcome.ret == 4
    outcome.has(
        "no Docker Engine answers at unix:///nonexistent.sock (DOCKER_HOST): no such file or directory; start it"
    )
    outcome.shows_no_bug()


def test_file_that_is_not_a_socket(project, monkeypatch):
    project.file("not-a-socket", "")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project.path}/not-a-socket")
    refused(project).has("not-a-socket (DOCKER_HOST): connection refused; start it or unset DOCKER_HOST")


@pytest.mark.parametrize("value", ["carrier-pigeon://loft", "localhost", "tcp://", "/var/run/docker.sock"])
def test_invalid_docker_host(project, monkeypatch, value):
    monkeypatch.setenv("DOCKER_HOST", value)
    refused(project).has(
        f"{value} (DOCKER_HOST) is not the address of a Docker Engine", "correct it or unset DOCKER_HOST"
    )


def test_reasons():
    assert reason_of(socket.gaierror(-2, "Name or service not known")) == "its host name cannot be resolved"
    assert reason_of(TimeoutError("read")) == "the connection timed out"
    assert reason_of(ValueError(ssl.SSLError(1, "wrong version number"))).startswith("TLS failed (")


def test_missing_certificate_directory(project, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/nonexistent")
    refused(project).has("the Docker Engine's certificates cannot be used", "DOCKER_CERT_PATH")


def test_missing_docker_context(project, monkeypatch):
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "no-such-context")
    refused(project).has(
        "docker context 'no-such-context' (DOCKER_CONTEXT) does not exist; choose one that `docker context"
    )


@pytest.mark.parametrize("chosen_by", ["variable", "configuration"])
def test_dead_docker_context(project, monkeypatch, chosen_by):
    from docker.context import config

    directory = project.path / ".docker"
    metadata = {"Name": "far", "Metadata": {}, "Endpoints": {"docker": {"Host": "unix:///far.sock"}}}
    project.file(f".docker/contexts/meta/{config.get_context_id('far')}/meta.json", json.dumps(metadata))
    project.file(".docker/config.json", json.dumps({"currentContext": "far"} if chosen_by == "configuration" else {}))
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    monkeypatch.delenv("DOCKER_HOST")
    if chosen_by == "variable":
        monkeypatch.setenv("DOCKER_CONTEXT", "far")
    outcome = refused(project)
    outcome.has("no Docker Engine answers at unix:///far.sock (docker context 'far'): no such file or directory")
    cure = "unset DOCKER_CONTEXT" if chosen_by == "variable" else "choose another one with `docker context use`"
    outcome.has(f"; start it or {cure}, or {NAMESPACE}")


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500, "out of order")

    do_POST = do_HEAD = do_GET

    def log_message(self, *args):
        pass


def test_engine_with_invalid_responses(project, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        outcome = refused(project)
        server.shutdown()
    outcome.has(f"tcp://127.0.0.1:{server.server_port} (DOCKER_HOST): ", "out of order")


@pytest.mark.parametrize("source", ["", "DOCKER_HOST"])
def test_no_permission(source):
    url = "unix:///var/run/docker.sock"
    error = EngineAddress(url, source, "unset DOCKER_HOST" if source else "", {}).unavailable(PermissionError(13, "no"))
    assert error.fact.startswith("this user is not allowed to use the Docker Engine at unix:///var/run/docker.sock")
    assert "run `sudo usermod -aG docker $USER` and log in again" in error.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_no_permission_for_a_socket(project, monkeypatch):
    path = project.path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        refused(project).has("this user is not allowed to use", "usermod")


def test_nothing_is_named_and_namespaces_do_not_work_either(project, monkeypatch):
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONFIG", str(project.path))
    monkeypatch.setattr(address, "DEFAULT_ADDRESS", "unix:///nonexistent.sock")
    outcome = refused(project)
    outcome.has(
        "no Docker Engine answers at unix:///nonexistent.sock: no such file or directory, and environments without an "
        "engine",
        "; start Docker or select a running engine with DOCKER_HOST or `docker context use`",
    )
    outcome.lacks(NAMESPACE)


def test_fallback_for_a_user_who_is_refused_names_the_cure(monkeypatch):
    from pytest_harbor.environment import factory
    from pytest_harbor.environment.docker import DockerProvider
    from pytest_harbor.environment.namespace import NamespaceProvider

    def refuse(self):
        try:
            raise PermissionError(13, "Permission denied")
        except PermissionError as error:
            raise EngineAddress("unix:///var/run/docker.sock", "", "", {}).unavailable(error) from error

    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setattr(DockerProvider, "describe", refuse)
    monkeypatch.setattr(DockerProvider, "is_explicit", False)
    monkeypatch.setattr(NamespaceProvider, "describe", lambda self: "namespace")
    provider, reason = factory.create_provider("auto")
    assert provider.name == "namespace"
    assert reason.startswith(
        "because this user is not allowed to use the Docker Engine at unix:///var/run/docker.sock; "
    )
    assert "sudo usermod -aG docker $USER" in reason


def test_namespaces_were_chosen_and_do_not_work(project):
    refused(project, "--harbor-environment=namespace").has("ERROR: environments without an engine")


def test_tests_without_tasks_do_not_need_an_engine(project, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    project.task("tb2/a")
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.run("test_unit.py").ret == 0
    assert project.run("--harbor-dataset=tb2", "--collect-only").ret == 0


def test_error_of_a_run_that_has_begun(monkeypatch):
    from pytest_harbor.environment.docker import DockerProvider

    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    with pytest.raises(EngineUnavailable, match=r"no Docker Engine answers at unix:///nonexistent.sock"):
        DockerProvider().find_image("x")
