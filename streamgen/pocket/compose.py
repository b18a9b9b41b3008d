"""The composer: seeded one-bar loops with a caption, every onset on the codec's frame grid.

Rules: no torch, no sound; a song is a value, and the same seed gives the same song. Everything is a whole number of
sixteenths, and a sixteenth is a whole number of 20 ms codec frames, so a loop that repeats in time repeats in tokens:
with free timing a token equals the one a loop earlier in 5 % of cases, on this grid in 96 %. A language model that can
copy what it played a bar ago has a beat; that is the whole reason for the narrow palette.

    bpm      150    125    94 (93.75)
    frames     5      6      8           per sixteenth
    frames    80     96    128           per bar
"""

import random
import zlib
from dataclasses import dataclass, field

FRAME_RATE_HZ = 50
STEPS_PER_BAR = 16
FRAMES_PER_STEP = {150: 5, 125: 6, 94: 8}
DRUM_CHANNEL = 9

KEY_NAMES = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A"}
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
DRUM_KEYS = {"K": 36, "S": 38, "R": 37, "C": 39, "H": 42, "O": 46, "D": 51, "P": 44}
DRUM_VELOCITY = {"K": 110, "S": 105, "R": 90, "C": 105, "H": 70, "O": 80, "D": 85, "P": 60}


@dataclass(frozen=True)
class Note:
    """One note: `start` and `length` in sixteenths from the bar line, pitch and velocity as in MIDI."""

    channel: int
    pitch: int
    velocity: int
    start: int
    length: int


@dataclass(frozen=True)
class Part:
    """One melodic instrument of a style: its General MIDI program, its word, its rhythms and its register."""

    program: int
    word: str
    rhythms: tuple[str, ...]
    centre: int
    velocity: int


@dataclass(frozen=True)
class Style:
    """A genre: how it is called, what it plays, and in which mode."""

    names: tuple[str, ...]
    moods: tuple[str, ...]
    kit: int | None
    grooves: tuple[dict[str, str], ...]
    bass: tuple[Part, ...]
    chords: tuple[Part, ...]
    leads: tuple[Part, ...]
    minor: bool
    walk: bool = False
    extension: int | None = None


# x begins a note, - holds it, . rests; sixteen characters are one bar.
STYLES: dict[str, Style] = {
    "house": Style(
        names=("house", "house music", "club house", "dance house"),
        moods=("energetic", "driving", "dancing"),
        kit=25,
        grooves=(
            {"K": "x...x...x...x...", "C": "....x.......x...", "O": "..x...x...x...x."},
            {"K": "x...x...x...x...", "C": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
        ),
        bass=(Part(38, "synth bass", ("..x-..x-..x-..x-", "x.x-..x-x.x-..x-"), 38, 105),),
        chords=(
            Part(81, "saw synth", ("x--...x--...x---", "..x-..x-..x-..x-"), 62, 80),
            Part(0, "piano", ("x--x--x-..x--x--", "x-..x-..x-..x-.."), 62, 95),
        ),
        leads=(),
        minor=True,
    ),
    "rock": Style(
        names=("rock", "rock music", "rock band", "guitar rock"),
        moods=("powerful", "loud", "energetic"),
        kit=16,
        grooves=(
            {"K": "x.....x.x.......", "S": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.x.....x.x.....", "S": "....x.......x...", "H": "x...x...x...x..."},
        ),
        bass=(Part(34, "electric bass", ("x-x-x-x-x-x-x-x-", "x---x---x---x---"), 36, 105),),
        chords=(Part(30, "distorted guitar", ("x-------x-------", "x-x-x-x-x-x-x-x-"), 52, 85),),
        leads=(),
        minor=False,
    ),
    "lofi": Style(
        names=("lofi hip hop", "lofi", "chill hop", "hip hop"),
        moods=("chill", "relaxed", "mellow"),
        kit=0,
        grooves=(
            {"K": "x......x..x.....", "R": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.........x.....", "S": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
        ),
        bass=(Part(33, "bass", ("x-----..x---....", "x---..x-x---...."), 36, 100),),
        chords=(
            Part(4, "electric piano", ("x-------x-------", "x---..x-x---...."), 60, 85),
            Part(11, "vibraphone", ("x-------x-------", "x---..x-x---...."), 64, 90),
        ),
        leads=(),
        minor=True,
        extension=6,
    ),
    "chiptune": Style(
        names=("chiptune", "8-bit", "video game music", "8-bit chiptune"),
        moods=("playful", "happy", "bouncy"),
        kit=24,
        grooves=(
            {"K": "x...x...x...x...", "S": "....x.......x..."},
            {"K": "x.....x.x.......", "S": "....x.......x..."},
        ),
        bass=(Part(38, "synth bass", ("x-..x-..x-..x-..", "x.x.x.x.x.x.x.x."), 38, 95),),
        chords=(),
        leads=(Part(80, "square wave", ("x-x-x-x-x-x-x-x-", "x-x-x---x-x-x---"), 72, 80),),
        minor=False,
    ),
    "piano": Style(
        names=("solo piano", "piano music", "piano piece", "classical piano"),
        moods=("gentle", "romantic", "calm"),
        kit=None,
        grooves=(),
        bass=(Part(0, "piano", ("x-x-x-x-x-x-x-x-", "x---x---x---x---"), 50, 70),),
        chords=(),
        leads=(Part(0, "piano", ("x---x---x---x---", "x-----x-x-------", "x-------x---x---"), 72, 95),),
        minor=False,
        walk=True,
    ),
    "ambient": Style(
        names=("ambient", "ambient music", "soundscape", "cinematic ambient"),
        moods=("dreamy", "peaceful", "floating"),
        kit=None,
        grooves=(),
        bass=(),
        chords=(Part(48, "strings", ("x-------x-------",), 58, 85), Part(19, "organ", ("x-------x-------",), 58, 80)),
        leads=(Part(46, "harp", ("x-------x-------", "x---x---x---x---"), 72, 80),),
        minor=True,
    ),
    "jazz": Style(
        names=("jazz trio", "jazz", "swing jazz", "piano jazz"),
        moods=("smooth", "cool", "warm"),
        kit=40,
        grooves=(
            {"D": "x...x..xx...x..x", "P": "....x.......x..."},
            {"D": "x...x..xx...x..x", "R": "....x.......x..."},
        ),
        bass=(Part(32, "double bass", ("x---x---x---x---",), 38, 110),),
        chords=(Part(0, "piano", ("..x-..x---......", "x-..x-----......"), 62, 90),),
        leads=(),
        minor=False,
        walk=True,
        extension=6,
    ),
}
PROGRESSIONS = {False: ((0, 3), (0, 4), (0, 5)), True: ((0, 5), (0, 6), (0, 3))}
CONTOURS = ((0, 1, 2, 1), (2, 1, 0, 1), (0, 2, 1, 3), (3, 2, 1, 0))
TEMPO_WORDS = {150: ("fast", "quick"), 125: ("mid tempo", "medium tempo"), 94: ("slow", "slow tempo")}


@dataclass(frozen=True)
class Loop:
    """One bar: its notes, and the program of every channel they use (drum kits on channel 9)."""

    notes: tuple[Note, ...]
    programs: dict[int, int]


@dataclass(frozen=True)
class Song:
    """What a clip is made of: two loops of one palette (the second varies the first) and what a caption may say."""

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
    progression = rng.choice(PROGRESSIONS[style.minor])
    loops = tuple(_loop(rng, style, parts, tonic, progression) for _ in range(2))
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


def _roles(style: Style) -> tuple[tuple[str, tuple[Part, ...]], ...]:
    return ("bass", style.bass), ("chords", style.chords), ("leads", style.leads)


def _loop(rng: random.Random, style: Style, parts: dict[str, Part], tonic: int, progression: tuple[int, int]) -> Loop:
    notes = _drums(rng.choice(style.grooves)) if style.grooves else []
    programs = {DRUM_CHANNEL: style.kit} if style.kit is not None else {}
    for channel, (role, part) in enumerate(parts.items()):
        programs[channel] = part.program
        rhythm, contour = rng.choice(part.rhythms), rng.choice(CONTOURS)
        for index, (start, length) in enumerate(_onsets(rhythm)):
            degree = progression[start * 2 // STEPS_PER_BAR]
            pitches = _pitches(role, style, part.centre, tonic, degree, contour[index % 4])
            notes += [Note(channel, pitch, part.velocity, start, length) for pitch in pitches]
    return Loop(tuple(sorted(notes, key=lambda note: (note.start, note.channel, note.pitch))), programs)


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
        if style.names[0] == "rock":  # power chords: a third distorts into mud
            root = _near(chord[0], centre)
            return [root, root + 7, root + 12]
        return sorted(_near(tone, centre) for tone in chord)
    if role == "bass":
        return [_near(chord[(0, 2, 1, 2)[turn % 4] if style.walk else 0], centre)]
    return [_near(chord[turn % 3], centre) + 12 * (turn // 3)]


def _chord(style: Style, tonic: int, degree: int) -> list[int]:
    scale = MINOR if style.minor else MAJOR
    tones = (0, 2, 4) if style.extension is None else (0, 2, 4, style.extension)
    return [(tonic + scale[(degree + tone) % 7]) % 12 for tone in tones]


def _near(pitch_class: int, centre: int) -> int:
    """The pitch of that class nearest to `centre`: common tones stay, so voices lead by the smallest steps."""
    return centre + (pitch_class - centre + 6) % 12 - 6


def caption(song: Song, rng: random.Random, complete: bool = False) -> str:
    """Describe a song in varied words.

    Args:
        song: what is played.
        rng: chooses synonyms, order and what is left unsaid.
        complete: say everything (used to judge: a caption that leaves the tempo out cannot be held to it).
    """
    style = STYLES[song.style]
    wanted = [rng.choice(style.names)]
    if complete or rng.random() < 0.75:
        wanted.append(_instrument_words(song, rng))
    if complete or rng.random() < 0.85:
        wanted.append(rng.choice((f"{song.bpm} bpm", f"at {song.bpm} bpm", f"tempo {song.bpm}")))
    elif rng.random() < 0.6:
        wanted.append(rng.choice(TEMPO_WORDS[song.bpm]))
    if complete or rng.random() < 0.6:
        wanted.append(f"in {song.key}")
    if complete or rng.random() < 0.5:
        wanted.append(song.mood)
    if not complete and rng.random() < 0.1:
        wanted = wanted[1:] or wanted  # instruments and tempo alone must work too
    rng.shuffle(wanted)
    return rng.choice((", ", " ", ", ")).join(wanted)


def _instrument_words(song: Song, rng: random.Random) -> str:
    words = list(song.instruments)
    rng.shuffle(words)
    return rng.choice((" and ", ", ", " ")).join(words)
