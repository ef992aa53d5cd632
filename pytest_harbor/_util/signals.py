"""Signals that end a process: turned into an interrupt, so that it cleans up first."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import threading
from collections.abc import Callable
from typing import Any, NoReturn

# SIGHUP: the terminal was closed, or the connection was lost. SIGQUIT: Ctrl-\\.
ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT")
# Terminals are among a process's first descriptors.
MAX_DESCRIPTORS = 256


def interrupt_on_signals() -> Callable[[], None] | None:
    """Turn the signals that end a process into KeyboardInterrupt, and return what restores the previous handlers.

    A signal that is ignored, as SIGHUP is below nohup, stays ignored. Only the main thread may set signal handlers; in
    any other this returns None.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    previous: dict[int, Any] = {}
    for name in ENDING:
        number = getattr(signal, name, None)
        # None: something else than Python handles it, such as faulthandler.
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            previous[number] = signal.signal(number, _interrupt)

    def restore() -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in previous.items():
                signal.signal(number, handler)

    return restore


def _interrupt(number: int, frame: object) -> NoReturn:
    _replace_lost_terminals()
    raise KeyboardInterrupt(f"signal {number}")


def _replace_lost_terminals() -> None:
    """Send what is written to a closed terminal nowhere: an error while cleaning up would leave environments behind."""
    for descriptor in range(MAX_DESCRIPTORS):
        with contextlib.suppress(OSError):
            if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
                continue
            try:
                os.write(descriptor, b"")
            except OSError as error:
                if error.errno != errno.EIO:
                    continue
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(null, descriptor, inheritable=os.get_inheritable(descriptor))
                os.close(null)
