from __future__ import annotations

from typing import get_args

import numpy as np

from bridge.session import messages as commands
from bridge.session.messages import ACTIONS, Block, Command, Event


def test_a_block_knows_its_end() -> None:
    assert Block(np.zeros((2, 320), np.float32), 64_000).end_sample == 64_320


def test_every_message_is_a_command_or_an_event() -> None:
    """A door that handles both unions misses none."""
    messages = {*get_args(Command), *get_args(Event)}
    named = {getattr(commands, name) for name in commands.__all__ if name[0].isupper() and name not in ("ACTIONS",)}
    assert named - messages == {commands.Block, commands.Listener, Command, Event}


def test_the_transports_words() -> None:
    assert ACTIONS == ("play", "pause", "stop", "reset")
