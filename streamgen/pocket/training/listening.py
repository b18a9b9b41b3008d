"""The listener that names a style: fitted on songs as the codec plays them, and examined on songs it never heard.

Rules: hears five seconds of mono sound; knows the codec and no language model. It is fitted and examined each time, for
another codec makes another sound. The songs it learns from are nobody else's; those of its examination are held out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import EncodecModel

from streamgen.pocket.training.codec import codes_to_sound, sound_to_codes
from streamgen.pocket.training.compose import Song, songs_of_every_style, training_song
from streamgen.pocket.training.corpus import Pcm, render_seconds
from streamgen.pocket.training.measures import Audio, StyleClassifier
from streamgen.pocket.training.styles import STYLES
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ, Synthesizer

HEARD_SECONDS = 5
LISTENER_SONGS = 444  # fitted on 144 it hears fewer styles in codes that are damaged: see the card
EXAM_SONGS = 120
_FIRST_OWN_SONG, _FIRST_EXAM_SONG = 500_000, 20_000  # numbers that neither training nor the exhibits come to


@dataclass
class Confusion:
    """How often music of one style was heard as another.

    Attributes:
        counts: by (style, heard as).
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, style: str, heard: str) -> None:
        """Count one clip."""
        self.counts[style, heard] += 1

    @property
    def right(self) -> float:
        """Share of the clips heard as what they are; not a number of none."""
        total = self.counts.total()
        return sum(n for (style, heard), n in self.counts.items() if style == heard) / total if total else float("nan")

    def row(self, style: str) -> str:
        """How much of a style was heard right, and as what else: `3 of 4 (funk 1)`."""
        wrong = {heard: n for (of, heard), n in sorted(self.counts.items()) if of == style != heard}
        right, total = self.counts[style, style], self.counts[style, style] + sum(wrong.values())
        others = ", ".join(f"{heard} {n}" for heard, n in wrong.items())
        return f"{right} of {total}" + (f" ({others})" if others else "")


def style_listener(codec: EncodecModel, songs: int) -> StyleClassifier:
    """A classifier fitted on five seconds of so many songs that nothing else uses, as the codec plays them."""
    chosen = [training_song(_FIRST_OWN_SONG + number) for number in range(songs)]
    with Synthesizer() as synth:
        clips = [as_codec_plays(codec, render_seconds(synth, song, HEARD_SECONDS)) for song in chosen]
    return StyleClassifier(clips, [song.style for song in chosen])


def examine(classify: Callable[[Audio], str], codec: EncodecModel, songs: int) -> dict[str, Confusion]:
    """What a listener hears in held-out songs, as many of each style, real and through the codec."""
    found = {"real": Confusion(), "codec": Confusion()}
    with Synthesizer() as synth:
        for song in songs_of_every_style(songs, _FIRST_EXAM_SONG):
            pcm = render_seconds(synth, song, HEARD_SECONDS)
            found["real"].add(song.style, classify(to_floats(pcm)))
            found["codec"].add(song.style, classify(as_codec_plays(codec, pcm)))
    return found


def confusion(classify: Callable[[Audio], str], clips: Sequence[tuple[Song, Audio]]) -> Confusion:
    """What a listener hears in the first five seconds of some clips."""
    found = Confusion()
    for song, audio in clips:
        found.add(song.style, classify(audio[: HEARD_SECONDS * SAMPLE_RATE_HZ]))
    return found


def table(kinds: dict[str, Confusion]) -> str:
    """Styles in rows, kinds of sound in columns, in markdown."""
    lines = [f"| style | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    lines += [f"| {style} | {' | '.join(found.row(style) for found in kinds.values())} |" for style in STYLES]
    lines.append(f"| right | {' | '.join(f'{found.right:.3g}' for found in kinds.values())} |")
    return "\n".join(lines) + "\n"


def as_codec_plays(codec: EncodecModel, pcm: Pcm) -> Audio:
    """Sound after the codec's encoder and decoder: float32, mono."""
    return np.asarray(codes_to_sound(codec, sound_to_codes(codec, pcm)).numpy(), dtype=np.float32)


def to_floats(pcm: Pcm) -> Audio:
    """16-bit samples as float32."""
    return np.asarray(pcm.astype(np.float32) / 32767, dtype=np.float32)
