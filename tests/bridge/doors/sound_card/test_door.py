"""The door's thread against a device that opens, falls silent, goes away and comes back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bridge.audio.ring import Ring
from bridge.doors.access import Access
from bridge.doors.device import door as device_door
from bridge.doors.door import Service
from bridge.doors.sound_card import door as sound_door
from bridge.doors.sound_card.card import OutputDevice
from bridge.doors.sound_card.door import SoundCardDoor
from bridge.errors import DeviceError
from bridge.metrics import Metrics
from bridge.session.events import Block, PlayerState, TransportCause, Transported
from bridge.session.session import Listener
from bridge.settings import Settings

SOURCE_HZ, DEVICE_HZ = 32_000, 48_000
SPEAKERS = OutputDevice(3, "Speakers", "ALSA", 2, DEVICE_HZ, 0.03, False)


class Card:
    """A sound card: a thread that calls back every 10 ms until it is pulled out."""

    plugged = True
    opened: list[Card]

    def __init__(self, device: OutputDevice, ring: Ring, latency_seconds: float) -> None:
        if not Card.plugged:
            raise DeviceError(f"sound device {device.name!r} does not open: Device unavailable")
        self.device, self.ring, self.asked = device, ring, latency_seconds
        self.latency_seconds, self.late_callbacks, self.active = 0.02, 0, True
        self.heard: list[np.ndarray] = []
        self.thread = threading.Thread(target=self.play, daemon=True)
        Card.opened.append(self)

    def play(self) -> None:
        due = time.monotonic()
        while self.active:
            out = np.zeros((480, self.device.channels), np.float32)
            self.ring.read_into(out)
            self.heard.append(out)
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self) -> Card:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.active = False
        self.thread.join()

    abandon = __exit__


class Session:
    """A sine in blocks of 50 ms, made 0.2 s before they are due."""

    name, model, rate_hz = "live", "sine", SOURCE_HZ

    def __init__(self) -> None:
        self.live = self
        self.listeners: list[Listener] = []
        self.start = time.time()
        self.sample = 0

    def add(self, listener: Listener) -> list[Block]:
        self.listeners.append(listener)
        return [self.block()]

    def remove(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def block(self) -> Block:
        count = SOURCE_HZ // 20
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(self.sample, self.sample + count) / SOURCE_HZ)
        due = self.start + 0.2 + self.sample / SOURCE_HZ
        block = Block(np.stack((wave, wave)).astype(np.float32), self.sample, time_us=round(due * 1e6))
        self.sample += count
        return block

    async def play(self, seconds: float) -> None:
        end = time.time() + seconds
        while time.time() < end:
            await asyncio.sleep(0.005)
            while self.start + self.sample / SOURCE_HZ < time.time():
                for listener in self.listeners:
                    listener.audio(self.block())


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OutputDevice]]:
    """What the next scans find."""
    found = [SPEAKERS]
    Card.plugged, Card.opened = True, []
    monkeypatch.setattr(sound_door, "SoundCard", Card)
    monkeypatch.setattr(sound_door, "rescan", lambda: None)
    monkeypatch.setattr(sound_door, "output_devices", lambda: list(found))
    monkeypatch.setattr(device_door, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(device_door, "STALL_SECONDS", 0.3)
    yield found
    for card in Card.opened:
        card.active = False


def door_at(device: OutputDevice) -> SoundCardDoor:
    """A door that was told to play there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound_door, "choose_device", lambda _wanted: device)
        return SoundCardDoor(Service(Settings(latency=0.07), Access(), Metrics()))


def with_door(play: Callable[[SoundCardDoor, Session], Any], device: OutputDevice = SPEAKERS) -> SoundCardDoor:
    async def run() -> SoundCardDoor:
        session, door = Session(), door_at(device)
        await door.open(session)  # type: ignore[arg-type]
        try:
            await play(door, session)
        finally:
            await door.close("the test is over")
        return door

    return asyncio.run(run())


def test_a_session_is_heard_and_the_device_released(scans: list[OutputDevice]) -> None:
    async def play(door: SoundCardDoor, session: Session) -> None:
        await session.play(1.0)
        stats = door.sound_stats()
        assert (stats.device, stats.starvations, stats.jumps, stats.reopened) == ("ALSA: Speakers", 0, 0, 0)
        assert stats.delay_seconds == 0.0, (
            "what the session commits ahead is enough for 0.02 s of latency and the margin"
        )
        assert door.places() == {"sound": "ALSA: Speakers"}
        assert door.stats()["sound_playing"] == 1
        assert session.listeners == [door]

    door = with_door(play)
    (card,) = Card.opened
    heard = np.concatenate(card.heard)[:, 0]
    assert np.abs(heard).max() == pytest.approx(0.5, abs=0.01)
    assert card.asked == 0.07
    bend = np.abs(np.diff(heard)).max()
    assert bend < 1.2 * 0.5 * 2 * np.pi * 440 / DEVICE_HZ, "no click at the end, nor at the beginning"
    assert heard[-1] == 0
    assert not card.active
    assert door.sound_stats().device == ""


@pytest.mark.slow
def test_a_device_that_goes_away_is_opened_again_under_its_new_number(
    scans: list[OutputDevice], caplog: pytest.LogCaptureFixture
) -> None:
    async def play(door: SoundCardDoor, session: Session) -> None:
        await session.play(0.3)
        scans.clear()
        Card.plugged, Card.opened[0].active = False, False
        await session.play(0.8)
        assert door.sound_stats().device == ""
        Card.plugged = True
        scans.extend([replace(SPEAKERS, name="Webcam"), replace(SPEAKERS, index=7)])
        await session.play(0.8)
        assert (door.sound_stats().device, door.sound_stats().reopened) == ("ALSA: Speakers", 1)

    with_door(play)
    assert [card.device.index for card in Card.opened] == [3, 7]
    assert np.abs(np.concatenate(Card.opened[1].heard)).max() == pytest.approx(0.5, abs=0.01)
    told = caplog.messages
    assert len(told) == 2, told
    assert "went away; trying again" in told[0]
    assert "playing on Speakers" in told[1]


@pytest.mark.slow
def test_a_device_that_only_falls_silent_counts_as_gone(scans: list[OutputDevice]) -> None:
    async def play(door: SoundCardDoor, session: Session) -> None:
        await session.play(0.3)
        Card.opened[0].play = lambda: None  # type: ignore[method-assign]
        Card.opened[0].ring.read_into = lambda out: None  # type: ignore[method-assign]
        await session.play(1.2)
        assert door.sound_stats().reopened == 1

    with_door(play)


def test_the_default_device_may_come_back_as_another(scans: list[OutputDevice]) -> None:
    headset = OutputDevice(3, "Headset", "ALSA", 2, DEVICE_HZ, 0.03, True)
    scans[:] = [OutputDevice(0, "Speakers", "ALSA", 1, DEVICE_HZ, 0.03, True)]

    async def play(door: SoundCardDoor, session: Session) -> None:
        await session.play(0.3)
        Card.opened[0].active = False
        await session.play(0.8)
        assert door.sound_stats().device == "ALSA: Speakers"

    with_door(play, headset)
    assert Card.opened[1].heard[-1].shape == (480, 1)


def test_a_device_that_does_not_open_is_told_once_and_tried_again(
    scans: list[OutputDevice], caplog: pytest.LogCaptureFixture
) -> None:
    Card.plugged = False

    async def play(door: SoundCardDoor, session: Session) -> None:
        await session.play(0.5)
        assert door.sound_stats().device == ""
        Card.plugged = True
        await session.play(0.5)
        assert door.sound_stats().device == "ALSA: Speakers"

    with_door(play)
    told = caplog.messages
    assert len(told) == 2, told
    assert "'Speakers' does not open: Device unavailable; trying again every" in told[0]


@pytest.mark.slow
def test_a_pause_is_no_starvation(scans: list[OutputDevice]) -> None:
    async def play(door: SoundCardDoor, session: Session) -> None:
        await session.play(0.3)
        door.event(Transported(TransportCause.PAUSE, PlayerState.PAUSED, "test", session.sample))
        await asyncio.sleep(0.8)
        session.start += 0.8
        await session.play(0.4)
        assert (door.sound_stats().starvations, door.sound_stats().jumps) == (0, 0)
        assert door.sound_stats().starved_seconds == 0
        assert Card.opened[0].ring.starved_frames > 0.3 * DEVICE_HZ

    with_door(play)


def test_its_end_does_not_wait_for_a_block(scans: list[OutputDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would be heard as sound that breaks off, where it fades."""
    monkeypatch.setattr(device_door, "_LOOK_SECONDS", 5.0)
    ended: list[float] = []

    async def play(_door: SoundCardDoor, session: Session) -> None:
        await session.play(0.3)
        ended.append(time.monotonic())

    with_door(play)
    assert time.monotonic() - ended[0] < 4


def test_queueing_never_waits_and_is_bounded(scans: list[OutputDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_door, "_QUEUE_BLOCKS", 5)
    session = Session()
    door = door_at(SPEAKERS)  # never opened: nobody takes what is queued
    start = time.perf_counter()
    for _ in range(50):
        door.audio(session.block())
    assert time.perf_counter() - start < 0.2
    assert door.sound_stats().dropped_blocks == 45


def test_without_a_device_there_is_silence_and_one_line_unless_one_was_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(_wanted: str | None) -> OutputDevice:
        raise DeviceError("no sound device: PortAudio finds none that plays")

    monkeypatch.setattr(sound_door, "choose_device", none)
    door = SoundCardDoor(Service(Settings(), Access(), Metrics()))
    assert caplog.messages == ["no sound here: no sound device: PortAudio finds none that plays"]
    session = Session()
    asyncio.run(door.open(session))  # type: ignore[arg-type]
    assert session.listeners == []
    assert (door.places(), door.stats()) == ({"sound": None}, {})
    asyncio.run(door.close("the end"))

    def no_portaudio() -> list[OutputDevice]:
        raise DeviceError("no sound: the PortAudio library is not here")

    monkeypatch.setattr(sound_door, "output_devices", no_portaudio)
    with pytest.raises(DeviceError, match="PortAudio library"):
        SoundCardDoor(Service(Settings(output="Speakers"), Access(), Metrics()))
    assert SoundCardDoor(Service(Settings(soundcard=False), Access(), Metrics())).stats() == {}


def test_a_device_that_was_named_and_is_not_there_yet_is_waited_for(
    scans: list[OutputDevice], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As JACK and MIDI are: an interface may be switched on after the service."""
    scans.clear()

    def choose(wanted: str | None) -> OutputDevice:
        if not scans:
            raise DeviceError(f"no sound device fits {wanted!r}; there are: 1 'HDMI'")
        return scans[0]

    monkeypatch.setattr(sound_door, "choose_device", choose)

    async def run() -> None:
        session, door = Session(), SoundCardDoor(Service(Settings(output="Speakers"), Access(), Metrics()))
        await door.open(session)  # type: ignore[arg-type]
        assert door.places() == {"sound": None}
        await session.play(0.2)
        scans.append(SPEAKERS)
        await session.play(0.8)
        assert door.places() == {"sound": "ALSA: Speakers"}
        await door.close("the test is over")

    asyncio.run(run())
    assert "sound: no sound device fits 'Speakers'; there are: 1 'HDMI'; trying again" in caplog.messages[0]
    assert caplog.messages[1:] == ["sound: playing on Speakers"]
    assert np.abs(np.concatenate(Card.opened[0].heard)).max() > 0.4
