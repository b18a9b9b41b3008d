"""Whether the beat goes on through a change of prompt: how far the new onsets' grid lies from the old one's.

    onsets      |   |   |   |   |   |   ¦    |   |   |   |          ¦ the bar line that the change waits for
    old grid    |   |   |   |   |   |   |
    new grid                                 |   |   |   |
                                        └ its jump: where each grid passes the line, heard in onsets alone

Rules: plays through streamgen as users do, a change by default on the bar line; of what the engine says it takes the
line's sample, near which both grids are read. The grid is of sixteenths: a jump by whole ones is not heard.
"""

import math
from dataclasses import dataclass

import numpy as np

from streamgen.model import Model
from streamgen.pocket.training.compose import STEPS_PER_BAR
from streamgen.pocket.training.defects import near_grid, onsets
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

ONE_TEMPO = (
    ("house", "techno"),
    ("techno", "70s funk with horns"),
    ("funky slap bass groove", "bebop"),
    ("drum & bass", "8-bit video game music"),
    ("heavy metal riff", "jungle breakbeats"),
    ("lo-fi hip hop", "reggae sunset on the beach"),
)
TWO_TEMPI = (
    ("house", "lo-fi hip hop"),
    ("chill beats to study to", "drum & bass"),
    ("dub", "berlin warehouse techno"),
    ("punk rock", "disco"),
    ("slow jazz", "funky slap bass groove"),
    ("retro arcade", "bob marley style"),
)
CUT_SECONDS = 0.03  # the ends of a piece of sound are onsets of their own
BEFORE_SECONDS, AFTER_SECONDS = 8.3, 8.0  # no tempo has a bar line at 8.3


@dataclass(frozen=True)
class Change:
    """A change of prompt in a stream: its sound (mono), where the new prompt begins, and the sixteenths of both."""

    before: str
    after: str
    audio: Audio
    line_seconds: float
    step_seconds: tuple[float, float]

    def jump_ms(self) -> float:
        """By how much the beat comes late at the line, or early (below 0); not a number without a grid."""
        turn = round(self.line_seconds * SAMPLE_RATE_HZ)
        old = grid_offset(self.audio[:turn], self.line_seconds, self.step_seconds[0])
        new = grid_offset(self.audio[turn:], 0.0, self.step_seconds[1])
        step = min(self.step_seconds)
        return 1000 * ((new - old + step / 2) % step - step / 2)


def grid_offset(audio: Audio, place_seconds: float, step_seconds: float) -> float:
    """How long after a place the grid that the onsets fit best has a line, within half a step either way.

    The fit is the mean angle of the onsets, as in `share_on_grid`, and then of those near that grid alone. Not a number
    where most of them are not: then there is no grid.
    """
    times, strengths = onsets(audio)
    inside = (times > CUT_SECONDS) & (times < len(audio) / SAMPLE_RATE_HZ - CUT_SECONDS)
    times, strengths = times[inside], strengths[inside]
    near = near_grid(times, strengths, step_seconds)
    if near.sum() <= len(times) / 2:
        return math.nan
    turns = np.exp(2j * np.pi * (times[near] - place_seconds) / step_seconds)
    return float(np.angle((turns * strengths[near]).sum()) / (2 * np.pi) * step_seconds)


def play_change(model: Model, before: str, after: str, seed: int) -> Change:
    """Play one prompt, ask for another in the middle of a bar, and play that."""
    with model.open_stream(before, seed=seed) as stream:
        first = stream.read(round(BEFORE_SECONDS * model.sample_rate_hz)).samples[0]
        line = stream.set(prompt=after)
        rest = stream.read(line - len(first) + round(AFTER_SECONDS * model.sample_rate_hz)).samples[0]
    audio = np.concatenate([first, rest]).astype(np.float32)
    steps = bar_seconds(model, before) / STEPS_PER_BAR, bar_seconds(model, after) / STEPS_PER_BAR
    return Change(before, after, audio, line / model.sample_rate_hz, steps)


def bar_seconds(model: Model, prompt: str) -> float:
    """Length of a bar at the tempo that the checkpoint hears in a prompt."""
    heard = model.heard(prompt)
    assert heard is not None, prompt  # the stage has asked before
    return heard.bar_frames / model.frame_rate_hz
