"""The Engine's events for the end of commands and containers, so that nothing has to poll."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from docker import APIClient

EXEC_DIED = "exec_die"
CONTAINER_DIED = "die"


class EventListener:
    """A listener for the Engine's events about the containers of one process.

    Args:
        client: used only by this listener, as the event stream occupies a connection.
        owner_label: label of the containers to listen for.

    Attributes:
        alive: whether events are being received.

    """

    def __init__(self, client: APIClient, owner_label: str) -> None:
        self._client = client
        self._filters = {"type": ["container"], "event": [EXEC_DIED, CONTAINER_DIED], "label": [owner_label]}
        self._changed = threading.Condition()
        self._exit_codes: dict[str, int] = {}
        self._dead: set[str] = set()
        self._stream: Any = None
        self.alive = False

    def open(self) -> None:
        """Start listening; after this, no event is missed. A second call does nothing."""
        if self._stream is not None:
            return
        self._stream = self._client.events(filters=self._filters, decode=True)
        self.alive = True
        threading.Thread(target=self._listen, name="harbor-docker-events", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self._stream is not None:
            # Errors about a connection that is already closed help nobody.
            with contextlib.suppress(Exception):
                self._stream.close()

    def exit_code(self, exec_id: str) -> int | None:
        """Return the exit code of a command if it has ended, else None."""
        with self._changed:
            return self._exit_codes.get(exec_id)

    def container_died(self, container: str) -> bool:
        """Return True if a container has stopped since it was last forgotten."""
        with self._changed:
            return container in self._dead

    def wait(self, exec_id: str, container: str, timeout: float) -> int | None:
        """Wait up to `timeout` seconds for a command or its container to end; return the exit code, if known."""
        with self._changed:
            self._changed.wait_for(
                lambda: exec_id in self._exit_codes or container in self._dead or not self.alive, timeout
            )
            return self._exit_codes.get(exec_id)

    def forget(self, *, exec_id: str = "", container: str = "") -> None:
        """Drop the events of a command or a container."""
        with self._changed:
            self._exit_codes.pop(exec_id, None)
            self._dead.discard(container)

    def _listen(self) -> None:
        try:
            for event in self._stream:
                actor = event.get("Actor", {})
                attributes = actor.get("Attributes", {})
                action = str(event.get("Action", "")).partition(":")[0]
                with self._changed:
                    if action == EXEC_DIED and "execID" in attributes:
                        self._exit_codes[attributes["execID"]] = int(attributes.get("exitCode", -1))
                    elif action == CONTAINER_DIED:
                        self._dead.add(actor.get("ID", ""))
                    self._changed.notify_all()
        except Exception:
            pass
        finally:
            with self._changed:
                self.alive = False
                self._changed.notify_all()
