"""Observers hear of what they have a method for."""

import pytest

from syncer.events import BytesMoved, RoundStarted, RunStarted
from syncer.observers import Observer, Observers


class Counting(Observer):
    def __init__(self) -> None:
        super().__init__()
        self.moved: list[BytesMoved] = []

    def on_bytes_moved(self, event: BytesMoved) -> None:
        self.moved.append(event)


MOVED = BytesMoved("pulled", "quay.io", 5)


def test_an_event_goes_to_the_method_that_is_named_after_it():
    observer = Counting()
    observer.notify(MOVED)
    assert observer.moved == [MOVED]


def test_event_without_a_method_is_ignored():
    observer = Counting()
    observer.notify(RunStarted("id", "cli", 1))
    assert observer.moved == []


def test_several_observers_all_hear():
    observers = [Counting(), Counting()]
    Observers(observers).notify(MOVED)
    assert [observer.moved for observer in observers] == [[MOVED], [MOVED]]


def test_events_do_not_change():
    with pytest.raises(AttributeError):
        MOVED.nbytes = 6  # type: ignore[misc]


def test_failing_observer_is_logged_once_and_does_not_affect_others(caplog):
    class Broken(Observer):
        def on_round_started(self, _event: RoundStarted) -> None:
            raise ValueError("broken")

    class Listening(Observer):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[object] = []

        def on_round_started(self, event: RoundStarted) -> None:
            self.heard.append(event)

    listening = Listening()
    both = Observers([Broken(), listening])
    both.notify(RoundStarted(1, 2))
    both.notify(RoundStarted(2, 2))
    assert len(listening.heard) == 2
    assert len(caplog.records) == 1
