"""Which process owns an environment, and whether it lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_harbor._util import process as owner


def test_this_process_lives():
    token = owner.owner()
    assert token.startswith(f"{os.getpid()}.")
    assert owner.owner() == token
    assert owner.alive(token)


def test_a_process_that_ended_does_not_live():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = owner.owner(process.pid)
        assert owner.alive(token)
        process.stdin.close()
        process.wait()
    assert not owner.alive(token)


def test_a_zombie_does_not_live():
    process = subprocess.Popen([sys.executable, "-c", "print('x')"], stdout=subprocess.PIPE)
    token = owner.owner(process.pid)
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
    assert not owner.alive(token)
    process.stdout.close()
    process.wait()


@pytest.mark.parametrize("token", ["", ".", "1", "1.", "x.y", "SELF.", "SELF.other", "-1.x", "99999999.x"])
def test_what_is_no_token_of_a_process_does_not_live(token):
    assert not owner.alive(token.replace("SELF", str(os.getpid())))


def test_a_number_that_is_used_again_is_another_process():
    token = owner.owner()
    pid, _, started = token.partition(".")
    assert not owner.alive(f"{pid}.{started}0")


def test_the_machine_is_the_same_in_a_child_and_a_plain_word():
    name = owner.machine()
    code = "from pytest_harbor._util import process; print(process.machine())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == name
    assert name.isalnum()
