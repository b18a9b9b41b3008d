"""One text for all listeners, and never another event's."""

from __future__ import annotations

import json

import pytest

from bridge.doors.native import protocol as wire
from bridge.doors.native.broadcast import Broadcast
from bridge.session.messages import Changed, Gap


def test_an_event_is_written_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(wire, "event", lambda event: written.append(event) or json.dumps(event.from_sample))
    shared, one, other = Broadcast(), Gap(1, 2, "underrun"), Gap(3, 2, "underrun")
    assert [shared.text(event) for event in (one, one, other, other, one)] == ["1", "1", "3", "3", "1"]
    assert written == [one, other, one]


def test_an_equal_event_that_is_another_is_written_anew() -> None:
    shared = Broadcast()
    values = {"top_k": 1}
    first = shared.text(Changed(values, "a", 5))
    values["top_k"] = 2
    assert json.loads(first)["values"] == {"top_k": 1}
    assert json.loads(shared.text(Changed(values, "a", 5)))["values"] == {"top_k": 2}
