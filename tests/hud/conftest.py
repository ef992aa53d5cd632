"""Fixtures for the tools."""

import os
import shutil

import pytest
from local_shell import PROGRAMS, LocalShell, directory_of_programs

from pytest_harbor.hud.tools import Tools


@pytest.fixture(params=["bash", "sh", "busybox"])
def shell(request, tmp_path):
    workdir = tmp_path / "work"
    workdir.mkdir()
    path = os.environ["PATH"]
    if request.param == "sh":
        path = directory_of_programs(tmp_path / "bin", PROGRAMS, shutil.which)
    elif request.param == "busybox":
        busybox = shutil.which("busybox")
        if busybox is None:
            pytest.skip("needs busybox")
        path = directory_of_programs(tmp_path / "bin", PROGRAMS, lambda name: busybox)
    return LocalShell(workdir, path)


@pytest.fixture
def tools(shell):
    return Tools(shell, image=lambda data, mime: (data, mime))


@pytest.fixture
def work(shell):
    return shell.workdir
