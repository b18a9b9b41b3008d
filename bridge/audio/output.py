"""From what a model made to what a session plays: edges faded, at the session's rate, through the effects.

    model's samples ─► fade ─► resampler ─► effects ─► the session's samples, position after position

Both the resampler (12 ms) and the effects hold something back; `finish` gets it out where the music ends or pauses, so
that positions stand still there too: sample p is the music of position p, before a pause and after it.

Rules: numpy and soxr only, no I/O, no thread; used on what is final: nothing here is ever taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from bridge.audio.chain import Chain
from bridge.audio.conversion import resampler
from bridge.audio.effect import Pcm
from bridge.audio.rack import Rack
from streamgen.config import Value

__all__ = ["OutputPath"]

_FADE_SECONDS = 0.02


class OutputPath:
    """The way out of one session.

    Args:
        model_rate_hz: of what goes in.
        rate_hz: of what comes out.
        channels: of the model: 1 if both rows of every block are the same.
        max_block: the longest block that goes in, in its own samples.

    Attributes:
        position: session sample of the next one to come out.
        taken: model's samples that went in so far.
        fade_samples: of the model's, over which edges fade.
    """

    def __init__(self, model_rate_hz: int, rate_hz: int, channels: int, max_block: int) -> None:
        self._model_rate_hz, self._rate_hz = model_rate_hz, rate_hz
        self._chain = Chain(rate_hz, channels, self.session_sample(max_block) + 4_096)
        self._channels = channels
        self._convert = resampler(model_rate_hz, rate_hz, channels)
        self.position = self.taken = 0
        self.fade_samples = round(_FADE_SECONDS * model_rate_hz)

    @property
    def rack(self) -> Rack:
        """The rack among its effects."""
        return self._chain.rack

    @property
    def frontier(self) -> int:
        """Session sample up to which everything has gone in: what follows can still be made otherwise."""
        return self.session_sample(self.taken)

    @property
    def turns_at(self) -> int:
        """Session sample from which effects can still be told otherwise: the resampler holds something back."""
        return self._chain.position

    def session_sample(self, model_sample: int) -> int:
        """Where a sample of the model's lies in the session."""
        return (2 * model_sample * self._rate_hz + self._model_rate_hz) // (2 * self._model_rate_hz)

    def model_sample(self, session_sample: int) -> int:
        """The first sample of the model's that lies at a session sample or behind it."""
        return -(-session_sample * self._model_rate_hz // self._rate_hz)

    def set(self, values: Mapping[str, Value], at_sample: int | None = None, glide_samples: int = 0) -> int:
        """Change parameters of the effects at a session sample, or as soon as can be; see `Chain.set`."""
        return self._chain.set(values, at_sample, glide_samples)

    def forget(self, names: Collection[str]) -> None:
        """Give up what the effects were to be told later of some parameters; see `Chain.forget`."""
        self._chain.forget(names)

    def process(self, samples: Pcm, *, fade_in: bool = False) -> Pcm:
        """Take the model's next float32 [2, n]; returns what comes out of the session's."""
        if fade_in:
            samples = samples.copy()
            samples[:, : self._fade(samples)] *= self._ramp(samples)
        self.taken += samples.shape[1]
        return self._out(self._chain.process(self._converted(samples)))

    def finish(self, samples: Pcm) -> Pcm:
        """Take the last samples before a pause or an end, fade them out, and return them and what was held back."""
        samples, fade = samples.copy(), self._fade(samples)
        samples[:, samples.shape[1] - fade :] *= self._ramp(samples)[::-1]
        self.taken += samples.shape[1]
        rest = self._converted(samples, last=True)
        self._convert = resampler(self._model_rate_hz, self._rate_hz, self._channels)
        # as many as belong to what went in: a resampler rounds the length of what it ends
        wanted = self.frontier - self._chain.position
        rest = np.pad(rest[:, :wanted], ((0, 0), (0, max(0, wanted - rest.shape[1]))))
        return self._out(np.concatenate((self._chain.process(rest), self._chain.finish()), axis=1))

    def _converted(self, samples: Pcm, last: bool = False) -> Pcm:
        """At the session's rate; where both rows are the same, one is enough."""
        made = self._convert.process(samples[: self._channels], last)
        return made if len(made) == 2 else np.concatenate((made, made))

    def close(self) -> None:
        """Give up what the effects hold."""
        self._chain.close()

    def _out(self, samples: Pcm) -> Pcm:
        self.position += samples.shape[1]
        return samples

    def _fade(self, samples: Pcm) -> int:
        return min(self.fade_samples, int(samples.shape[1]))

    def _ramp(self, samples: Pcm) -> Pcm:
        return np.linspace(0.0, 1.0, self._fade(samples), endpoint=False, dtype=np.float32)
