"""The hook that changes what a cassette compares and stores."""

from __future__ import annotations

import inspect
import textwrap

import openai
import pytest
from model_server import Answer

from pytest_harbor.errors import HookError
from pytest_harbor.plugin import hookspecs
from pytest_harbor.trial import TrialHooks


def ask(proxied, **options):
    return proxied.openai().chat.completions.create(
        model="model-a", messages=[{"role": "user", "content": "hi"}], **options
    )


class IgnoresSeed(TrialHooks):
    def cassette_request(self, task, request):
        assert task.name == "hello"
        request["body"].pop("seed", None)


class FromDocumentation(TrialHooks):
    """The example in the hook's own docstring."""

    def __init__(self):
        code = inspect.getdoc(hookspecs.pytest_harbor_cassette_request).partition("::\n\n")[2]
        self.names = {}
        exec(textwrap.dedent(code), self.names)

    def cassette_request(self, task, request):
        self.names["pytest_harbor_cassette_request"](request)


class Raises(TrialHooks):
    def cassette_request(self, task, request):
        raise ValueError("no such thing")


class NotSerializable(TrialHooks):
    def cassette_request(self, task, request):
        request["body"] = object()


@pytest.mark.parametrize("hooks", [IgnoresSeed, FromDocumentation])
def test_hook_ignores_more_differences(proxies, model_server, hooks):
    proxies.hooks = hooks()
    model_server.script.append(Answer("a"))
    with proxies("record") as proxied:
        ask(proxied, seed=1)
    with proxies("replay") as proxied:
        assert ask(proxied, seed=2).choices[0].message.content == "a"
    # The request that is sent is unchanged.
    assert model_server.requests[0].json["seed"] == 1


@pytest.mark.parametrize("hooks, message", [(Raises, "no such thing"), (NotSerializable, "not JSON serializable")])
def test_failing_hook_is_a_hook_error(proxies, model_server, hooks, message):
    proxies.hooks = hooks()
    with proxies("record") as proxied, pytest.raises(openai.InternalServerError, match=message):
        ask(proxied)
    assert isinstance(proxied.error, HookError)
    assert "pytest_harbor_cassette_request" in str(proxied.error)
    assert not model_server.requests
