"""Which process owns an environment, and whether it lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_harbor._util.process import is_alive, machine_id, process_token


def test_this_process_lives():
    token = process_token()
    assert token.startswith(f"{os.getpid()}.")
    assert process_token() == token
    assert is_alive(token)


def test_a_process_that_ended_does_not_live():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = process_token(process.pid)
        assert is_alive(token)
        process.stdin.close()
        process.wait()
    assert not is_alive(token)


def test_a_zombie_does_not_live():
    process = subprocess.Popen([sys.executable, "-c", "print('x')"], stdout=subprocess.PIPE)
    token = process_token(process.pid)
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
    assert not is_alive(token)
    process.stdout.close()
    process.wait()


@pytest.mark.parametrize("token", ["", ".", "1", "1.", "x.y", "SELF.", "SELF.other", "-1.x", "99999999.x"])
def test_what_is_no_token_of_a_process_does_not_live(token):
    assert not is_alive(token.replace("SELF", str(os.getpid())))


def test_a_number_that_is_used_again_is_another_process():
    token = process_token()
    pid, _, started = token.partition(".")
    assert not is_alive(f"{pid}.{started}0")


def test_the_machine_is_the_same_in_a_child_and_a_plain_word():
    name = machine_id()
    code = "from pytest_harbor._util.process import machine_id; print(machine_id())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == name
    assert name.isalnum()
