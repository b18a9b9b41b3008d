from __future__ import annotations

from typing import get_args

import numpy as np

from bridge.audio.faults import SlotFault
from bridge.session import commands, events
from bridge.session.commands import Action, Command, PlayerCommand, RackAction
from bridge.session.events import Block, Event, PlayerState, TransportCause


def test_a_block_knows_its_end() -> None:
    assert Block(np.zeros((2, 320), np.float32), 64_000).end_sample == 64_320


def test_every_message_is_a_command_or_an_event() -> None:
    """A door that handles both unions misses none."""
    asked = {getattr(commands, name) for name in commands.__all__}
    told = {getattr(events, name) for name in events.__all__}
    words = {Action, RackAction, Command, PlayerCommand}
    words |= {commands.GLIDE_SECONDS, commands.MORPH_SECONDS, commands.KEEP_SECONDS, commands.MAX_PRESET_NAME}
    assert {*get_args(PlayerCommand)} < {*get_args(Command)} == asked - words
    assert {*get_args(Event)} - {SlotFault} == told - {Block, Event, PlayerState, TransportCause, events.COMMIT_SECONDS}


def test_the_transports_words_and_what_its_button_shows() -> None:
    assert list(Action) == ["play", "pause", "stop", "reset"]
    assert list(TransportCause) == [*Action, "audio_prompt"]
    assert [state.value for state in PlayerState if state.plays] == ["starting", "playing", "late"]
