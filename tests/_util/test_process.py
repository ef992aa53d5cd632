"""Tokens of processes, and the machine's id."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_harbor._util.process import is_alive, machine_id, process_token


def test_this_process_is_alive():
    token = process_token()
    assert token.startswith(f"{os.getpid()}.")
    assert process_token() == token
    assert is_alive(token)


def test_ended_process_is_not_alive():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = process_token(process.pid)
        assert is_alive(token)
        process.stdin.close()
        process.wait()
    assert not is_alive(token)


def test_zombie_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", "print('x')"], stdout=subprocess.PIPE)
    token = process_token(process.pid)
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but not reaped
    assert not is_alive(token)
    process.stdout.close()
    process.wait()


@pytest.mark.parametrize("token", ["", ".", "1", "1.", "x.y", "SELF.", "SELF.other", "-1.x", "99999999.x"])
def test_invalid_token_is_not_alive(token):
    assert not is_alive(token.replace("SELF", str(os.getpid())))


def test_reused_pid_is_another_process():
    pid, _, started = process_token().partition(".")
    assert not is_alive(f"{pid}.{started}0")


def test_machine_id_is_the_same_in_a_child():
    code = "from pytest_harbor._util.process import machine_id; print(machine_id())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == machine_id()
    assert machine_id().isalnum()
