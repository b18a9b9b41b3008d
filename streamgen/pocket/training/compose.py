"""The composer: seeded songs of one-bar loops, every onset on the codec's frame grid.

Rules: no torch, no sound; a song is a value, and the same seed gives the same song. Everything is a whole number of
sixteenths, and a sixteenth is a whole number of 20 ms codec frames, so a loop that repeats in time repeats in tokens:
with free timing a token equals the one a loop earlier in 5 % of cases, on this grid in 96 %. A language model that can
copy what it played a bar ago has a beat; that is the whole reason for the narrow palette.

    bpm      150    125    94 (93.75)
    frames     5      6      8           per sixteenth
    frames    80     96    128           per bar

A song is a groove, a fill, a variation, a fill, a break, and the groove again. `SCORE` plays every passage from one to
the next once; longer forms are laid out from its bars.
"""

import itertools
import random
import zlib
from dataclasses import dataclass, field

from streamgen.pocket.training.styles import STYLES, Part, Style

STEPS_PER_BAR = 16
FRAMES_PER_STEP = {150: 5, 125: 6, 94: 8}
DRUM_CHANNEL = 9

KEY_NAMES = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A"}
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
DRUM_KEYS = {"K": 36, "S": 38, "R": 37, "C": 39, "H": 42, "O": 46, "D": 51, "P": 44, "T": 45, "U": 41}
DRUM_VELOCITY = {"K": 124, "S": 122, "R": 115, "C": 120, "H": 88, "O": 95, "D": 100, "P": 80, "T": 115, "U": 115}
FILLS = (
    {"S": "........x.x.xxxx"},
    {"S": "........x...x.x.", "T": "..........x.....", "U": "..............xx"},
    {"T": "........x.x.....", "U": "............x.x."},
    {"S": "............xxxx"},
    {"S": "........xx..xx..", "T": "..........x...x."},
    {"K": "........x..x..x.", "O": "........x.....x."},
    {"U": "........x..x..x."},
)
# Degrees on the four beats: the tonic has most of the bar in most of them, so that the key is heard.
PROGRESSIONS = {
    False: (
        (0, 0, 0, 3), (0, 0, 0, 4), (0, 0, 3, 4), (0, 0, 3, 0), (0, 0, 5, 4), (0, 0, 0, 0), (0, 3, 0, 4), (0, 4, 0, 3),
        (0, 0, 1, 4), (0, 0, 5, 3),
    ),
    True: (
        (0, 0, 0, 5), (0, 0, 0, 6), (0, 0, 5, 6), (0, 0, 3, 0), (0, 0, 5, 0), (0, 0, 0, 0), (0, 5, 0, 6), (0, 6, 0, 5),
        (0, 0, 3, 6), (0, 0, 2, 5),
    ),
}  # fmt: skip
STEADY_PROGRESSIONS = 6  # the first of them, in which the tonic has half a bar or more
CONTOURS = ((0, 1, 2, 1), (2, 1, 0, 1), (0, 2, 1, 3), (3, 2, 1, 0), (0, 0, 1, 2), (1, 0, 2, 0))
LOWEST_STEP, HIGHEST_STEP = -3, 8  # of a melody, in steps of the scale from the tonic


@dataclass(frozen=True)
class Note:
    """One note: `start` and `length` in sixteenths from the bar line, pitch and velocity as in MIDI."""

    channel: int
    pitch: int
    velocity: int
    start: int
    length: int


@dataclass(frozen=True)
class Loop:
    """One bar: its notes, and the program of every channel they use (drum kits on channel 9)."""

    notes: tuple[Note, ...]
    programs: dict[int, int]


GROOVE, FILL, VARIATION, TURN, BREAK = range(5)
# OPEN is the first bar, from silence; the bar after a change has the tails of the one before and is not the steady one.
SCORE = (GROOVE, GROOVE, FILL, VARIATION, VARIATION, TURN, BREAK, BREAK, GROOVE)


@dataclass(frozen=True)
class Song:
    """A palette, what a caption may say of it, and its five one-bar loops: groove, fill, variation, its fill, break."""

    style: str
    bpm: int
    tonic: int
    mood: str
    instruments: tuple[str, ...]
    loops: tuple[Loop, ...] = field(repr=False)

    @property
    def frames_per_bar(self) -> int:
        """Codec frames in one bar."""
        return FRAMES_PER_STEP[self.bpm] * STEPS_PER_BAR

    @property
    def key(self) -> str:
        """The key in words, such as `A minor`."""
        return f"{KEY_NAMES[self.tonic]} {'minor' if STYLES[self.style].minor else 'major'}"

    @property
    def has_drums(self) -> bool:
        """Whether a drum kit plays."""
        return STYLES[self.style].kit is not None


def compose(seed: int) -> Song:
    """Write one song; the same seed always gives the same song."""
    rng = random.Random(f"streamgen-pocket-{seed}")
    name = rng.choice(tuple(STYLES))
    style, bpm, tonic = STYLES[name], rng.choice(tuple(FRAMES_PER_STEP)), rng.choice(tuple(KEY_NAMES))
    parts = {role: rng.choice(options) for role, options in _roles(style) if options}
    words = ["drums"] if style.kit is not None else []
    words += sorted({part.word for part in parts.values()})
    groove, variation = (_loop(rng, style, parts, tonic) for _ in range(2))
    fill, turn = (_filled(loop, rng) for loop in (groove, variation))
    loops = (groove, fill, variation, turn, _broken(groove))
    return Song(name, bpm, tonic, rng.choice(style.moods), tuple(words), loops)


def held_out(song: Song) -> bool:
    """Whether this palette (style, tempo, key, mood, instruments) is kept from training: one in nine, chosen by hash.

    Style, tempo and key still occur in all their pairings, so that nothing a user can ask for is missing from training.
    """
    return zlib.crc32(repr((song.style, song.bpm, song.tonic, song.mood, song.instruments)).encode()) % 9 == 4


def training_song(index: int) -> Song:
    """The training song of that number: never a held-out pairing."""
    return next(song for attempt in range(1000) if not held_out(song := compose(index * 1000 + attempt)))


def held_out_song(index: int) -> Song:
    """The judge's song of that number: always a palette that training never saw."""
    return next(song for attempt in range(1000) if held_out(song := compose(-(index + 1) * 1000 - attempt)))


def songs_of_every_style(count: int, first: int = 1000) -> list[Song]:
    """Held-out songs from a number on, as many of each style as of any other."""
    most, kept = -(-count // len(STYLES)), list[Song]()
    for number in itertools.count(first):
        if len(kept) == count:
            return kept
        song = held_out_song(number)
        if sum(other.style == song.style for other in kept) < most:
            kept.append(song)
    raise AssertionError("numbers don't end")


def _roles(style: Style) -> tuple[tuple[str, tuple[Part, ...]], ...]:
    return ("bass", style.bass), ("chords", style.chords), ("leads", style.leads)


def _loop(rng: random.Random, style: Style, parts: dict[str, Part], tonic: int) -> Loop:
    progressions = PROGRESSIONS[style.minor]
    progression = rng.choice(progressions[:STEADY_PROGRESSIONS] if rng.random() < 0.9 else progressions)
    notes = _drums(rng.choice(style.grooves)) if style.grooves else []
    programs = {DRUM_CHANNEL: style.kit} if style.kit is not None else {}
    for channel, (role, part) in enumerate(parts.items()):
        programs[channel] = part.program
        rhythm, contour = varied(rng.choice(part.rhythms), rng), rng.choice(CONTOURS)
        onsets = _onsets(rhythm)
        walks = role == "leads" and rng.random() < 0.6  # the others turn over a chord, as basses do
        melody = _melody([start for start, _ in onsets], progression, rng) if walks else []
        for index, (start, length) in enumerate(onsets):
            degree = progression[start * 4 // STEPS_PER_BAR]
            if walks:
                pitches = [_step(style, tonic, part.centre, melody[index])]
            else:
                pitches = _pitches(role, style, part.centre, tonic, degree, contour[index % 4])
            notes += [Note(channel, pitch, part.velocity, start, length) for pitch in pitches]
    return _in_order(notes, programs)


def varied(rhythm: str, rng: random.Random) -> str:
    """A rhythm, half of the time with one onset more on an eighth, or one less; the first stays."""
    marks, change = list(rhythm), rng.random()
    if change < 0.25:
        free = [step for step in range(2, STEPS_PER_BAR, 2) if marks[step] != "x"]
        if free:
            marks[rng.choice(free)] = "x"
    elif change < 0.5:
        onsets = [step for step, mark in enumerate(marks) if mark == "x"][1:]
        if len(onsets) > 1:
            step = rng.choice(onsets)
            marks[step] = "-" if marks[step - 1] != "." else "."
    return "".join(marks)


def _melody(starts: list[int], progression: tuple[int, ...], rng: random.Random) -> list[int]:
    """Steps of the scale for onsets at these sixteenths: chord tones on the beats and half of the time between."""
    step, melody = rng.choice((0, 2, 4)), list[int]()
    for start in starts:
        if start % 4 == 0 or rng.random() < 0.5:
            degree = progression[start * 4 // STEPS_PER_BAR]
            tones = [degree + tone + 7 * octave for tone in (0, 2, 4) for octave in (-1, 0, 1)]
            wanted = step + rng.choice((-3, -2, -1, 1, 2, 3))
            step = min((tone for tone in tones if LOWEST_STEP <= tone <= HIGHEST_STEP), key=lambda t: abs(t - wanted))
        else:
            step = min(max(step + rng.choice((-2, -1, -1, 1, 1, 2)), LOWEST_STEP), HIGHEST_STEP)
        melody.append(step)
    return melody


def _step(style: Style, tonic: int, centre: int, step: int) -> int:
    """The pitch of a step of the scale from the tonic nearest to `centre`."""
    return _near(tonic, centre) + 12 * (step // 7) + _scale(style)[step % 7]


def _in_order(notes: list[Note], programs: dict[int, int]) -> Loop:
    return Loop(tuple(sorted(notes, key=lambda note: (note.start, note.channel, note.pitch))), programs)


def _filled(loop: Loop, rng: random.Random) -> Loop:
    """The bar that leads out of a section: a drum fill in its second half; without drums, a rest on its last beat."""
    if DRUM_CHANNEL not in loop.programs:
        return Loop(tuple(note for note in loop.notes if note.start < STEPS_PER_BAR * 3 // 4), loop.programs)
    kept = [n for n in loop.notes if n.channel != DRUM_CHANNEL or n.start < STEPS_PER_BAR // 2]
    return _in_order([*kept, *_drums(rng.choice(FILLS))], loop.programs)


def _broken(loop: Loop) -> Loop:
    """The bar of a break: no drums; without drums, the lowest voice alone."""
    if DRUM_CHANNEL in loop.programs:
        return Loop(tuple(note for note in loop.notes if note.channel != DRUM_CHANNEL), loop.programs)
    return Loop(tuple(note for note in loop.notes if note.channel == 0), loop.programs)


def _drums(groove: dict[str, str]) -> list[Note]:
    return [
        Note(DRUM_CHANNEL, DRUM_KEYS[drum], DRUM_VELOCITY[drum], start, 1)
        for drum, rhythm in groove.items()
        for start, _ in _onsets(rhythm)
    ]


def _onsets(rhythm: str) -> list[tuple[int, int]]:
    """Starts and lengths in sixteenths of a written rhythm."""
    starts = [step for step, mark in enumerate(rhythm) if mark == "x"]
    return [(step, 1 + len(rhythm[step + 1 :]) - len(rhythm[step + 1 :].lstrip("-"))) for step in starts]


def _pitches(role: str, style: Style, centre: int, tonic: int, degree: int, turn: int) -> list[int]:
    """The pitches one onset plays: a chord in close position, one bass note, or one melody note."""
    chord = _chord(style, tonic, degree)
    if role == "chords":
        if style.power:
            root = _near(chord[0], centre)
            return [root, root + 7, root + 12]
        return sorted(_near(tone, centre) for tone in chord)
    if role == "bass":
        return [_near(chord[(0, 2, 1, 2)[turn % 4] if style.walk else 0], centre)]
    return [_near(chord[turn % 3], centre) + 12 * (turn // 3)]


def _scale(style: Style) -> tuple[int, ...]:
    return MINOR if style.minor else MAJOR


def _chord(style: Style, tonic: int, degree: int) -> list[int]:
    scale = _scale(style)
    tones = (0, 2, 4) if style.extension is None else (0, 2, 4, style.extension)
    return [(tonic + scale[(degree + tone) % 7]) % 12 for tone in tones]


def _near(pitch_class: int, centre: int) -> int:
    """The pitch of that class nearest to `centre`: common tones stay, so voices lead by the smallest steps."""
    return centre + (pitch_class - centre + 6) % 12 - 6
