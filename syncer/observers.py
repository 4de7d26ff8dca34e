"""`Observer` receives the events of a run, and `Observers` passes them to several."""

import logging
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

_log = logging.getLogger(__name__)


class Observer:
    """Receives events. An event of class `ImageSynced` is passed to the method `on_image_synced`, if there is one."""

    def __init__(self) -> None:
        self._handlers: dict[type, Callable[[Any], None] | None] = {}

    def notify(self, event: object) -> None:
        """Pass one event to the method for its class."""
        kind = type(event)
        try:
            handler = self._handlers[kind]
        except KeyError:
            handler = self._handlers[kind] = self.handler_of(kind)
        if handler is not None:
            handler(event)

    def handler_of(self, kind: type) -> Callable[[Any], None] | None:
        """Return what receives events of a class. None if this observer ignores them. The answer is always the same."""
        handler: Callable[[Any], None] | None = getattr(self, _method_name(kind.__name__), None)
        return handler


class Observers(Observer):
    """Passes each event to several observers."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        super().__init__()
        self.observers = tuple(observers)
        self._receivers: dict[type, tuple[tuple[Observer, Callable[[Any], None]], ...]] = {}
        self._failed: list[Observer] = []

    def notify(self, event: object) -> None:
        kind = type(event)
        receivers = self._receivers.get(kind)
        if receivers is None:
            found = ((observer, receiver_of(observer, kind)) for observer in self.observers)
            receivers = tuple((observer, handler) for observer, handler in found if handler is not None)
            self._receivers[kind] = receivers
        for observer, handler in receivers:
            try:
                handler(event)
            except Exception:  # noqa: BLE001
                # A failing observer must not affect the run. Log only its first failure: there are thousands of events.
                if observer not in self._failed:
                    self._failed.append(observer)
                    _log.exception("%s failed at %s", type(observer).__name__, type(event).__name__)


def receiver_of(observer: Observer, kind: type) -> Callable[[Any], None] | None:
    """Return what passes an event to an observer. Some observers have their own `notify`, for events of any class."""
    has_own = type(observer).notify is not Observer.notify
    return observer.notify if has_own else observer.handler_of(kind)


@cache
def _method_name(class_name: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return f"on{words}"
