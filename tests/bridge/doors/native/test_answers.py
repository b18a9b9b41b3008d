"""streamgen.v1 without a socket: what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.doors.native.answers import ack, error, event, hello
from bridge.errors import WireError
from bridge.session.events import Changed, Event, Gap, Goaway, PlayerState, Stats, TransportCause, Transported

from ..web_session import TABLE, SineSession


def test_hello_lists_the_sessions_own_table_and_both_rates() -> None:
    table = {**TABLE, "guidance_scale": replace(TABLE["guidance_scale"], default=1.0)}
    session = SineSession(table=table, position=5)
    audio = {"codec": "s16le", "sample_rate_hz": 44_100, "chunk_ms": 40.0, "enabled": True, "channels": 2}
    message = json.loads(hello(session, audio, ["s16le"]))
    assert [row["name"] for row in message["parameters"]] == list(TABLE)
    assert (message["effects"], message["presets"]) == (session.effects(), [])
    fields = ["name", "type", "min", "max", "default", "unit", "description"]
    assert list(message["parameters"][0]) == fields
    assert {row["name"]: row["default"] for row in message["parameters"]}["guidance_scale"] == 1.0
    assert message["audio"] == audio
    assert (message["sample_rate_hz"], message["model_rate_hz"]) == (48_000, 32_000)
    assert message["follows"] == ["melody"]
    assert message["state"] == {
        "values": session.values(), "state": "playing", "playing": True, "position_samples": 5, "slots": [],
        "heard": "a sine",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            Changed({"top_k": 5}, "osc", 7),
            {"type": "changed", "values": {"top_k": 5}, "by": "osc", "applied_at_sample": 7, "rate_hz": 48_000},
        ),
        (
            Transported(TransportCause.AUDIO_PROMPT, PlayerState.PAUSED, "osc", 7),
            {
                "type": "transport",
                "action": "audio_prompt",
                "state": "paused",
                "by": "osc",
                "applied_at_sample": 7,
                "rate_hz": 48_000,
            },
        ),
        (
            Gap(1, 2, "underrun"),
            {"type": "gap", "from_sample": 1, "samples": 2, "reason": "underrun", "rate_hz": 48_000},
        ),
        (Goaway("bye"), {"type": "goaway", "reason": "bye"}),
    ],
)
def test_events_are_written_as_the_contract_says(told: Event, message: dict[str, object]) -> None:
    assert json.loads(event(told, 48_000)) == message


def test_stats_without_a_finite_factor_stay_json() -> None:
    message = json.loads(event(Stats(float("inf"), 1.5, 0, 2, 3, 4, True, PlayerState.PLAYING), 48_000))
    assert (message["realtime_factor"], message["lead_seconds"], message["window_position"]) == (None, 1.5, 3)
    assert (message["playing"], message["state"], message["rate_hz"]) == (True, "playing", 48_000)


def test_ack_and_error_echo_the_id_if_there_was_one() -> None:
    assert json.loads(ack(None, 5, 48_000)) == {"type": "ack", "applied_at_sample": 5, "rate_hz": 48_000}
    assert json.loads(ack(0, 5, 48_000, t=1)) == {
        "type": "ack", "id": 0, "applied_at_sample": 5, "rate_hz": 48_000, "t": 1
    }  # fmt: skip
    assert json.loads(error(WireError("bad_json", "é", 2))) == {
        "type": "error", "id": 2, "code": "bad_json", "message": "é"
    }  # fmt: skip
