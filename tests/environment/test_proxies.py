"""Network proxies of environments."""

from __future__ import annotations

import pytest

from pytest_harbor.environment.proxies import around_proxies, docker_proxies, host_proxies

DEFAULT = {"httpProxy": "http://p:1", "httpsProxy": "http://p:2", "noProxy": "localhost,.corp", "allProxy": "socks://p"}
UNIX = "unix:///var/run/docker.sock"


def test_docker_proxies():
    config = {"proxies": {"default": DEFAULT, "tcp://engine:2376": {"httpProxy": "http://q:1"}}}
    assert docker_proxies(config, UNIX) == {
        **dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://p:1"),
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://p:2"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,.corp"),
        **dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks://p"),
    }
    assert docker_proxies(config, "tcp://engine:2376") == {"HTTP_PROXY": "http://q:1", "http_proxy": "http://q:1"}


@pytest.mark.parametrize(
    "config", [{}, {"proxies": None}, {"proxies": {}}, {"proxies": {"default": {"httpProxy": ""}}}, {"proxies": [1]}]
)
def test_no_docker_proxies(config):
    assert docker_proxies(config, UNIX) == {}


def test_host_proxies():
    variables = {"https_proxy": "http://p", "NO_PROXY": "a", "PATH": "/bin", "MY_HTTP_PROXY": "x"}
    assert host_proxies(variables) == {"https_proxy": "http://p", "NO_PROXY": "a"}


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, {}),
        ({"NO_PROXY": "a"}, {}),
        ({"HTTP_PROXY": ""}, {}),
        ({"HTTP_PROXY": "http://p"}, {"NO_PROXY": "172.17.0.1", "no_proxy": "172.17.0.1"}),
        ({"https_proxy": "http://p", "no_proxy": "a, b"}, {"NO_PROXY": "a,b,172.17.0.1", "no_proxy": "a,b,172.17.0.1"}),
        (
            {"ALL_PROXY": "http://p", "NO_PROXY": "a", "no_proxy": "172.17.0.1"},
            {"NO_PROXY": "a,172.17.0.1", "no_proxy": "172.17.0.1"},
        ),
    ],
)
def test_around_proxies(variables, expected):
    assert around_proxies(variables, ["http://172.17.0.1:4567/v1", "harbor-key", ""]) == expected
