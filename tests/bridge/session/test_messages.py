from __future__ import annotations

from typing import get_args

import numpy as np

from bridge.session import messages
from bridge.session.messages import Action, Block, Command, Deed, Event, PlayerState, SlotState


def test_a_block_knows_its_end() -> None:
    assert Block(np.zeros((2, 320), np.float32), 64_000).end_sample == 64_320


def test_every_message_is_a_command_or_an_event() -> None:
    """A door that handles both unions misses none."""
    known = {*get_args(Command), *get_args(Event)}
    named = {getattr(messages, name) for name in messages.__all__}
    others = {messages.Block, messages.Listener, messages.Session, Command, Event, Action, PlayerState, Deed, SlotState}
    others |= {messages.PlayerCommand, messages.COMMIT_SECONDS, messages.GLIDE_SECONDS, messages.MORPH_SECONDS}
    others |= {messages.KEEP_SECONDS}
    assert {*get_args(messages.PlayerCommand)} < {*get_args(Command)}
    assert named - known == others


def test_the_transports_words_and_what_its_button_shows() -> None:
    assert list(Action) == ["play", "pause", "stop", "reset"]
    assert [state.value for state in PlayerState if state.plays] == ["starting", "playing", "late"]
