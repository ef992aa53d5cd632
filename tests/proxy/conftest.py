from __future__ import annotations

import pytest
from proxied import Proxies

from pytest_harbor.proxy import Prices
from pytest_harbor.task import Task


@pytest.fixture
def proxies(tmp_path, make_task, model_server):
    opened = Proxies(tmp_path, Task.load(make_task()), model_server.url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def prices(tmp_path_factory) -> Prices:
    file = tmp_path_factory.mktemp("prices") / "prices.toml"
    file.write_text('[models]\n"model-a" = { input = 10, cached = 1, output = 100 }\n')
    return Prices.load(file)
