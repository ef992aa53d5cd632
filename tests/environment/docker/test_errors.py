"""Errors of the Docker SDK as errors of pytest-harbor."""

import pytest
import requests
from docker.errors import APIError, DockerException, NotFound

from pytest_harbor.environment.docker.errors import engine_errors, error_text
from pytest_harbor.errors import EngineUnavailable, EnvironmentLost, InfrastructureError


@pytest.mark.parametrize(
    "error, kind, message",
    [
        (NotFound("404", explanation="No such container: x"), EnvironmentLost, "starting x: No such container: x"),
        (APIError("500", explanation="no space\nleft"), InfrastructureError, "starting x: no space left"),
        (DockerException("broken pipe"), EngineUnavailable, "the Docker Engine does not answer (broken pipe)"),
        (requests.exceptions.ConnectionError("refused"), EngineUnavailable, "does not answer (refused)"),
        (OSError("gone"), EngineUnavailable, "does not answer (gone)"),
    ],
)
def test_engine_errors(error, kind, message):
    with pytest.raises(InfrastructureError) as caught, engine_errors("starting x"):
        raise error
    assert type(caught.value) is kind
    assert message in caught.value.fact


def test_other_errors_are_not_touched():
    with pytest.raises(KeyError), engine_errors("starting x"):
        raise KeyError("x")


def test_error_text_is_one_bounded_printable_line():
    text = error_text(APIError("500", explanation="\x1b[31mred\n" * 1000))
    assert text.isprintable()
    assert len(text) <= 400
