"""What a control can be told to do, and that the session says at once what it can't."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.session.commands import Set
from bridge.session.learning import check_learning, read_map, written_map
from bridge.session.parameters import session_table
from streamgen.errors import ConfigError

from .rig import Rig

TABLE = session_table()


def test_a_map_is_read_as_it_was_written() -> None:
    text = "cc 1/74=guidance_scale; note 10/36=prompt 2; pc 1/5=preset slow dawn; bend 16=gain_db; nrpn 2/300=play"
    learned, wrong = read_map(text)
    assert (written_map(learned), wrong) == (text, [])
    assert learned["pc 1/5"] == "preset slow dawn"
    assert read_map(" ;cc 17/1=x; knob=gain_db;cc 1/1=; cc 1/2 = mute ") == (
        {"cc 1/2": "mute"},
        ["cc 17/1=x", "knob=gain_db", "cc 1/1="],
    )


@pytest.mark.parametrize(
    "target", ["gain_db", "mute", "quantize", "prompt 2", "preset slow dawn", "keep", "play", "reset", " top_p ", ""]
)
def test_what_can_be_learned(target: str) -> None:
    check_learning({"midi/learn": target}, TABLE)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nothing", "there is no parameter 'nothing'"),
        ("gain", "there is no parameter 'gain'; did you mean .*gain_db"),
        ("prompt 99", "there is no parameter"),
        ("preset ", "there is no parameter"),
        ("negative_prompt", "negative_prompt is a text: no knob turns it"),
    ],
)
def test_what_no_control_can_do_is_refused(target: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^midi/learn: {why}"):
        check_learning({"midi/learn": target}, TABLE)


def test_a_map_by_hand_is_checked_but_for_plugins_that_may_come_later() -> None:
    check_learning({"midi/map": "cc 1/74=plugin/2/wet; note 10/36=prompt 2; "}, TABLE)
    with pytest.raises(ConfigError, match=r"^midi/map: 'knob=gain_db' means nothing; write SOURCE=TARGET, such as"):
        check_learning({"midi/map": "cc 1/2=mute; knob=gain_db"}, TABLE)
    with pytest.raises(ConfigError, match=r"^midi/map: cc 1/74: there is no parameter 'gian_db'"):
        check_learning({"midi/map": "cc 1/74=gian_db"}, TABLE)


def test_a_session_refuses_it_whatever_the_door_and_changes_nothing(rig: Callable[..., Rig]) -> None:
    one = rig()
    for values in ({"midi/learn": "nothing", "gain_db": -6.0}, {"midi/map": "nothing", "gain_db": -6.0}):
        with pytest.raises(ConfigError):
            one.player.do(Set(values, "test"))
    assert one.player.parameters.values["gain_db"] == 0.0
