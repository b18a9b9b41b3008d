"""What a session makes of the checkpoint's mono sound: its master's loudness and width, and the parts it arranges.

    a stream, mono ─► behind_master ─► loudness_lufs, correlation, mono_loss_db
    a prompt ─► a session with `arrange`, as `streamgen render` plays it ─► within_parts

Rules: the only file of `streamgen` that knows `bridge`, for a listener hears the checkpoint by a session; the wheel
leaves it out. Sound is float32 at 32 kHz, `Audio` [n] or `Stereo` [2, n]. Loudness is by the meter that the master
itself goes by, ITU-R BS.1770.
"""

import math
from contextlib import closing
from itertools import accumulate, cycle

import numpy as np
import numpy.typing as npt

from bridge.audio.chain import Chain
from bridge.audio.limiter import Limiter
from bridge.audio.loudness import LoudnessMeter
from bridge.audio.master import LOUDNESS, TARGET_LUFS, Color, Master, master_default
from bridge.cli.options import first_values
from bridge.cli.render import OfflineSession
from bridge.session.arranger import read_scene
from bridge.session.rack_keeper import Beginning
from bridge.settings import Settings
from streamgen.model import Model
from streamgen.pocket.training.measures import Audio, autocorrelation, onset_envelope
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

Stereo = npt.NDArray[np.float32]
BLOCK = 960
SILENT_POWER = 1e-12
SHORTEST_PART_BARS = 4  # shorter ones have too few pairs of bars


def behind_master(audio: Audio, loudness_db: float, *, limited: bool) -> Stereo:
    """A stream behind the master that a session of the shipped checkpoint begins with.

    Args:
        audio: as the stream makes it.
        loudness_db: as it is told of what is heard in the prompt.
        limited: as a session hands it on, by its whole chain; else by the master alone, to the gain's last word.
    """
    chain = Chain(SAMPLE_RATE_HZ, 1, BLOCK, None if limited else [Master()])
    chain.set({"master": master_default("pocket"), LOUDNESS: loudness_db})
    both = np.stack([audio, audio])
    pieces = [chain.process(both[:, at : at + BLOCK]) for at in range(0, both.shape[1], BLOCK)]
    pieces.append(chain.finish())
    chain.close()
    return np.concatenate(pieces, axis=1)


def loudness_lufs(sound: Stereo) -> float:
    """Integrated loudness; -inf for silence."""
    meter = LoudnessMeter(SAMPLE_RATE_HZ)
    meter.process(np.ascontiguousarray(sound))
    return meter.lufs


def heard_lufs(audio: Audio) -> float:
    """How loud a stream is at the same gain as others: at the master's evener, less what the limiter takes off later.

    What has many peaks for its loudness loses some of it there: up to 2 dB of drums, nothing of strings.
    """
    sound = Color(SAMPLE_RATE_HZ, 1, len(audio)).process(np.stack([audio, audio]))
    lufs, limiter = loudness_lufs(sound), Limiter()
    limiter.prepare(SAMPLE_RATE_HZ, 2, sound.shape[1])
    limited = limiter.process(sound * np.float32(10 ** ((TARGET_LUFS - lufs) / 20)), 0, ())
    return lufs + loudness_lufs(limited) - TARGET_LUFS


def correlation(sound: Stereo) -> float:
    """Of left and right, -1 … 1; not a number where one of them is silent."""
    left, right = sound.astype(np.float64)
    power = float(np.sqrt(left.var() * right.var()))
    return float(((left - left.mean()) * (right - right.mean())).mean()) / power if power > SILENT_POWER else math.nan


def mono_loss_db(sound: Stereo) -> float:
    """By how much the mean of both channels is weaker than they are; not a number for silence."""
    apart = float((sound.astype(np.float64) ** 2).mean())
    summed = float((sound.astype(np.float64).mean(axis=0) ** 2).mean())
    return 10 * math.log10(apart / max(summed, SILENT_POWER)) if apart > SILENT_POWER else math.nan


def arranged(model: Model, prompt: str, seconds: float, seed: int = 0, master: str = "off") -> Stereo:
    """What `streamgen render PROMPT --master MASTER --session-rate 32000` plays."""
    settings = Settings.of({"arrange": True, "master": master, "seed": seed, "session_rate": SAMPLE_RATE_HZ})
    values, wanted = first_values(settings, prompt, {}), round(seconds * SAMPLE_RATE_HZ)
    pieces, length = list[Stereo](), 0
    with closing(OfflineSession(model, settings, values, {}, Beginning())) as session:
        while length < wanted:
            for piece in session.step():
                pieces.append(piece)
                length += piece.shape[1]
    return np.concatenate(pieces, axis=1)[:, :wanted]


def break_lu(sound: Stereo, bar_samples: int) -> tuple[float, float]:
    """By how many LU the first part with words of its own is louder than what is before it, and the part behind it.

    Args:
        sound: what a session arranged, by the shipped scene.
        bar_samples: of the prompt's tempo, which every part has.
    """
    parts = read_scene()
    number = next(number for number, part in enumerate(parts) if part.words)
    bars = [0, *accumulate(part.bars for part in parts)]
    begin, end, after = (bar_samples * bars[number + more] for more in range(3))
    loud = loudness_lufs(sound[:, begin:end])
    return loud - loudness_lufs(sound[:, :begin]), loud - loudness_lufs(sound[:, end:after])


def within_parts(audio: Audio, bar_samples: int) -> float:
    """Mean onset autocorrelation at the bar lag inside the parts of the shipped scene, from its beginning on.

    Args:
        audio: what a session arranged.
        bar_samples: of the prompt's tempo, which every part has.
    """
    found, start = list[float](), 0
    for part in cycle(read_scene()):
        end = start + part.bars * bar_samples
        if end > len(audio):
            break
        if part.bars >= SHORTEST_PART_BARS:
            found.append(autocorrelation(onset_envelope(audio[start:end]), bar_samples / SAMPLE_RATE_HZ))
        start = end
    return float(np.mean(found)) if found else math.nan
