"""Messages as Ableton's library sent them, and bytes that are none."""

from __future__ import annotations

import random

from bridge.doors.link import wire
from bridge.doors.link.wire import AudioType, Buffer, BufferPart, Discovery, Measurement, PlayState, Tempo

ALIVE = bytes.fromhex(
    "5f617364705f76010105000064457130466d6f64746d6c6e00000018000000000007a1200000000000f45d660000000000000000"
    "736573730000000864457130466d6f64737473740000001100000000000000000000000000000000006d657034000000067f000001e55a"
    "61657034000000067f0000018f76"
)
BYEBYE = bytes.fromhex("5f617364705f7601030000004a603e5b417e2f23")
PONG = bytes.fromhex(
    "5f6c696e6b5f7601027365737300000008407e7450472445345f5f677400000008000000000000087c"
    "5f5f68740000000800000000ec3beaa05f70677400000008000000000000083f"
)
ANNOUNCEMENT = bytes.fromhex(
    "63686e6e6c73760101050000407e7450472445347365737300000008407e7450472445345f5f70690000000c00000008726563656976"
    "6572617563610000000400000000"
)
REQUEST = bytes.fromhex("63686e6e6c73760104050000407e7450472445346368696400000008633e295f6a2a2f68")


def test_a_node_s_state_is_read_and_written_as_the_library_has_it() -> None:
    state = wire.read_discovery(ALIVE)
    assert state is not None
    assert (state.kind, state.node, state.session, state.ttl) == (Discovery.ALIVE, b"dEq0Fmod", b"dEq0Fmod", 5)
    assert (state.tempo, state.tempo.bpm) == (Tempo(500_000, 16_014_694, 0), 120.0)
    assert (state.play, state.place, state.audio) == (PlayState(), ("127.0.0.1", 58_714), ("127.0.0.1", 36_726))
    told = wire.state_entries(state.session, state.tempo, state.play, state.place, state.audio)
    assert wire.discovery_message(Discovery.ALIVE, 5, state.node, told) == ALIVE
    farewell = wire.read_discovery(BYEBYE)
    assert farewell is not None
    assert (farewell.kind, farewell.node) == (Discovery.BYEBYE, b"J`>[A~/#")


def test_a_measurement_s_answer_has_both_clocks() -> None:
    found = wire.read_measurement(PONG)
    assert found is not None
    kind, entries, raw = found
    assert (kind, wire.get_i64(entries, b"__gt"), wire.get_i64(entries, b"_pgt")) == (Measurement.PONG, 2_172, 2_111)
    assert wire.measurement_message(Measurement.PONG, raw) == PONG


def test_audio_messages_are_read_and_written() -> None:
    kind, ttl, node, entries = wire.read_audio(ANNOUNCEMENT) or (None,) * 4
    assert (kind, ttl, node) == (AudioType.ANNOUNCEMENT, 5, b"@~tPG$E4")
    session = wire.entry(b"sess", b"@~tPG$E4")
    assert isinstance(entries, dict)
    assert (
        wire.audio_message(AudioType.ANNOUNCEMENT, 5, node, session + wire.audio_channels("receiver", {}))
        == ANNOUNCEMENT
    )
    assert wire.read_audio(REQUEST) == (AudioType.REQUEST, 5, b"@~tPG$E4", {b"chid": b"c>)_j*/h"})
    chunk = BufferPart(2_776, 125, 16_007_032, 500_000)
    buffer = Buffer(b"c>)_j*/h", b"@~tPG$E4", (chunk,), 48_000, 2, bytes(500))
    message = wire.buffer_message(b"J`>[A~/#", buffer)
    assert len(message) == 574, "as the library's"
    assert wire.read_audio(message) == (AudioType.BUFFER, 0, b"J`>[A~/#", buffer)


def test_what_is_no_message_is_none_and_raises_nothing() -> None:
    rng = random.Random(7)
    messages = [
        ALIVE,
        BYEBYE,
        PONG,
        ANNOUNCEMENT,
        REQUEST,
        wire.buffer_message(b"12345678", Buffer(bytes(8), bytes(8), (), 1, 1, b"")),
    ]
    for _ in range(4_000):
        data = bytearray(rng.choice(messages))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randrange(len(data) + 1)])
        for read in (wire.read_discovery, wire.read_measurement, wire.read_audio):
            read(cut)
    assert wire.read_discovery(b"") is None
    assert wire.read_measurement(ALIVE) is None
    assert wire.read_audio(PONG) is None
