"""Remove what an environment leaves on the host, however hostile it is."""

from __future__ import annotations

import contextlib
import os
import time


def remove_tree(path: str) -> None:
    """Remove a directory and everything below it, without recursion and without following links.

    An agent can nest directories deeper than a path may be long, so each directory two levels down is moved up first.
    """
    number = 0
    try:
        os.chmod(path, 0o700)
    except FileNotFoundError:
        return
    while True:
        with os.scandir(path) as found:
            entries = list(found)
        if not entries:
            break
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            with os.scandir(entry.path) as below:
                for child in below:
                    if child.is_dir(follow_symlinks=False):
                        number += 1
                        os.chmod(child.path, 0o700)
                        os.rename(child.path, f"{path}/.{number}")
                    else:
                        os.unlink(child.path)
            os.rmdir(entry.path)
    os.rmdir(path)


def remove_group(path: str) -> None:
    """Remove a control group; retry for up to a second, as the kernel takes a moment to notice that it is empty."""
    for _ in range(100):
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
    with contextlib.suppress(OSError):
        os.rmdir(path)
