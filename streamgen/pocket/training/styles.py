"""The twelve styles: what each is called, which instruments it has, and the rhythms they choose from.

Rules: data only. In a rhythm `x` begins a note, `-` holds it and `.` rests; sixteen characters are one bar.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One melodic instrument.

    Attributes:
        program: General MIDI, from 0.
        word: what captions call it.
        rhythms: one is chosen for each loop.
        centre: MIDI pitch its notes lie around.
        velocity: as in MIDI.
    """

    program: int
    word: str
    rhythms: tuple[str, ...]
    centre: int
    velocity: int


@dataclass(frozen=True)
class Style:
    """A genre.

    Attributes:
        names: what it is called.
        moods: what a caption may say of it.
        kit: General MIDI drum kit, None without drums.
        grooves: drum letters (see `compose.DRUM_KEYS`) and their rhythms; one is chosen.
        bass, chords, leads: the instruments of each role; one is chosen.
        minor: the mode.
        walk: the bass moves through the chord.
        extension: scale degree added to the chords.
        power: chords are root, fifth and octave: a third distorts into mud.
    """

    names: tuple[str, ...]
    moods: tuple[str, ...]
    kit: int | None
    grooves: tuple[dict[str, str], ...]
    bass: tuple[Part, ...] = ()
    chords: tuple[Part, ...] = ()
    leads: tuple[Part, ...] = ()
    minor: bool = False
    walk: bool = False
    extension: int | None = None
    power: bool = False


STYLES: dict[str, Style] = {
    "house": Style(
        names=("house", "house music", "club house", "dance house"),
        moods=("energetic", "driving", "dancing"),
        kit=25,
        grooves=(
            {"K": "x...x...x...x...", "C": "....x.......x...", "O": "..x...x...x...x."},
            {"K": "x...x...x...x...", "C": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x...x...x...x...", "C": "....x.......x..x", "O": "..x...x...x...x."},
        ),
        bass=(
            Part(
                38,
                "synth bass",
                (
                    "..x-..x-..x-..x-",
                    "x.x-..x-x.x-..x-",
                    "x--x--x-..x-..x-",
                    "x-..x-..x-..x-..",
                    "..xx..xx..x.x.x.",
                    "x..x..x...x..x..",
                    "x.......x.x...x.",
                ),
                38,
                100,
            ),
        ),
        chords=(
            Part(
                81,
                "saw synth",
                ("x--...x--...x---", "..x-..x-..x-..x-", "x-....x-....x-..", "x-------x---x---", "x..x..x..x..x.x."),
                62,
                72,
            ),
            Part(
                0,
                "piano",
                ("x--x--x-..x--x--", "x-..x-..x-..x-..", "..x-..x-..x-..x-", "x..x..x...x.x...", "x-x-..x-..x-x-.."),
                62,
                90,
            ),
        ),
        minor=True,
    ),
    "techno": Style(
        names=("techno", "techno music", "minimal techno", "detroit techno"),
        moods=("dark", "hypnotic", "pounding"),
        kit=24,
        grooves=(
            {"K": "x...x...x...x...", "H": "..x...x...x...x."},
            {"K": "x...x...x...x...", "H": "x.x.x.x.x.x.x.x.", "S": "....x.......x..."},
            {"K": "x...x...x..xx...", "H": "..x...x...x...x.", "S": "....x.......x..."},
        ),
        bass=(Part(38, "synth bass", (".xxx.xxx.xxx.xxx", "..xx..xx..xx..xx", ".x.x.x.x.x.x.x.x"), 36, 90),),
        leads=(
            Part(
                81,
                "synth lead",
                ("x..x..x..x..x.x.", "x.....x...x.....", "..x..x..x..x....", "x.x...x.x...x.x."),
                64,
                75,
            ),
        ),
        minor=True,
    ),
    "drum and bass": Style(
        names=("drum and bass", "dnb", "jungle", "liquid drum and bass"),
        moods=("frantic", "rolling", "intense"),
        kit=8,
        grooves=(
            {"K": "x.........x.....", "S": "....x..x.x..x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.x.......x.....", "S": "....x.......x..x", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.....x...x.....", "S": "....x.......x...", "D": "x.x.x.x.x.x.x.x."},
        ),
        bass=(Part(39, "sub bass", ("x-------x---x---", "x-----x-----x---", "x---------x-----"), 34, 110),),
        chords=(Part(89, "warm pad", ("x---------------", "x-------x-------"), 62, 60),),
        minor=True,
    ),
    "rock": Style(
        names=("rock", "rock music", "rock band", "guitar rock"),
        moods=("powerful", "loud", "rough"),
        kit=16,
        grooves=(
            {"K": "x.....x.x.......", "S": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.x.....x.x.....", "S": "....x.......x...", "H": "x...x...x...x..."},
            {"K": "x.......x.x.....", "S": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
        ),
        bass=(Part(34, "electric bass", ("x-x-x-x-x-x-x-x-", "x---x---x---x---", "x-----x-x---x---"), 36, 100),),
        chords=(Part(30, "distorted guitar", ("x-------x-------", "x-x-x-x-x-x-x-x-", "x-----x---x-----"), 52, 68),),
        power=True,
    ),
    "funk": Style(
        names=("funk", "funk music", "funky groove", "seventies funk"),
        moods=("funky", "tight", "groovy"),
        kit=0,
        grooves=(
            {"K": "x..x......x.....", "S": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.x.......x..x..", "S": "....x..x....x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.....x...xx....", "S": "....x.......x..x", "H": "xxx.xxx.xxx.xxx."},
        ),
        bass=(Part(36, "slap bass", ("x-..x.x...x.x.x.", "x..x..x...x..x..", "x-.x.x..x-.x.x.."), 38, 100),),
        chords=(
            Part(7, "clavinet", ("..x...x.x..x..x.", ".x..x..x..x..x..", "x..x..x...x..x.."), 60, 75),
            Part(61, "brass", ("x-........x-..x.", "......x-......x-", "x..x..........x-"), 62, 75),
        ),
        extension=6,
    ),
    "reggae": Style(
        names=("reggae", "reggae music", "roots reggae", "dub reggae"),
        moods=("sunny", "laid back", "easygoing"),
        kit=0,
        grooves=(
            {"K": "........x.......", "R": "........x.......", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.......x.......", "R": "........x.......", "H": "..x...x...x...x."},
            {"K": "x...x...x...x...", "R": "........x.......", "H": "x.x.x.x.x.x.x.x."},
        ),
        bass=(Part(33, "bass", ("x-..x-x-..x-x-..", "x---..x-x---....", "..x-x-..x-x-x-.."), 36, 105),),
        chords=(
            Part(16, "organ", ("..x...x...x...x.", "..x.x...x.x...x."), 60, 75),
            Part(27, "guitar", ("....x.......x...", "..x...x...x...x."), 60, 85),
        ),
    ),
    "lofi": Style(
        names=("lofi hip hop", "lofi", "chill hop", "hip hop"),
        moods=("chill", "relaxed", "mellow"),
        kit=0,
        grooves=(
            {"K": "x......x..x.....", "R": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x.........x.....", "S": "....x.......x...", "H": "x.x.x.x.x.x.x.x."},
            {"K": "x..x......x.....", "R": "....x.......x...", "H": "..x...x...x...x."},
        ),
        bass=(Part(33, "bass", ("x-----..x---....", "x---..x-x---....", "x-......x-..x-.."), 36, 95),),
        chords=(
            Part(4, "electric piano", ("x-------x-------", "x---..x-x---....", "x-----x---------"), 60, 70),
            Part(11, "vibraphone", ("x-------x-------", "x---..x-x---....", "x---x---x---x---"), 64, 75),
        ),
        minor=True,
        extension=6,
    ),
    "jazz": Style(
        names=("jazz trio", "jazz", "swing jazz", "piano jazz"),
        moods=("smooth", "cool", "warm"),
        kit=40,
        grooves=(
            {"D": "x...x..xx...x..x", "P": "....x.......x..."},
            {"D": "x...x..xx...x..x", "R": "....x.......x..."},
            {"D": "x...x...x...x...", "R": "....x.......x...", "K": "x.......x......."},
        ),
        bass=(Part(32, "double bass", ("x---x---x---x---", "x---x--xx---x--x"), 38, 105),),
        chords=(Part(0, "piano", ("..x-..x---......", "x-..x-----......", "x-.....x-......."), 62, 75),),
        walk=True,
        extension=6,
    ),
    "ambient": Style(
        names=("ambient", "ambient music", "soundscape", "drone ambient"),
        moods=("dreamy", "peaceful", "floating"),
        kit=None,
        grooves=(),
        chords=(
            Part(89, "warm pad", ("x---------------", "x-------x-------"), 58, 85),
            Part(19, "church organ", ("x---------------", "x-------x-------"), 58, 80),
        ),
        leads=(
            Part(
                46,
                "harp",
                ("x-------x-------", "x---x---x---x---", "x-----x-----x---", "x-x-x-x-x-x-x-x-", "x-x-x-------x-x-"),
                72,
                70,
            ),
        ),
        minor=True,
    ),
    "orchestral": Style(
        names=("orchestral", "orchestra", "film score", "symphonic"),
        moods=("epic", "noble", "cinematic"),
        kit=None,
        grooves=(),
        bass=(
            Part(
                43,
                "contrabass",
                ("x-------x-------", "x---x---x---x---", "x.x.x.x.x.x.x.x.", "x..x..x..x..x.x."),
                38,
                95,
            ),
        ),
        chords=(
            Part(48, "strings", ("x-------x-------", "x---x---x---x---", "x---x---x---x-x-"), 58, 85),
            Part(
                48, "strings", ("x.x.x.x.x.x.x.x.", "x..x..x..x..x.x.", "x.xxx.xxx.xxx.xx", "x.x.xx.xx.x.xx.x"), 58, 105
            ),
            Part(44, "strings", ("x-------x-------", "x---x---x---x---", "x-----x-x-----x-"), 58, 95),
        ),
        leads=(
            Part(
                60,
                "french horn",
                ("x-------x---x---", "x-----x-x---x-x-", "x---x-x-x-------", "x--x--x-x---x---"),
                62,
                95,
            ),
            Part(73, "flute", ("x---x---x---x---", "x-----x-x---x---", "x-x-x---x-x-x---", "x-x-x-x-x---x-x-"), 76, 90),
        ),
        minor=True,
    ),
    "chiptune": Style(
        names=("chiptune", "8-bit", "video game music", "8-bit chiptune"),
        moods=("playful", "happy", "bouncy"),
        kit=24,
        grooves=(
            {"K": "x...x...x...x...", "S": "....x.......x..."},
            {"K": "x.....x.x.......", "S": "....x.......x..."},
            {"K": "x...x...x...x...", "S": "....x.......x...", "H": "..x...x...x...x."},
        ),
        bass=(Part(38, "synth bass", ("x-..x-..x-..x-..", "x.x.x.x.x.x.x.x."), 38, 85),),
        leads=(Part(80, "square wave", ("x-x-x-x-x-x-x-x-", "x-x-x---x-x-x---", "x---x-x-x---x-x-"), 69, 62),),
    ),
    "piano": Style(
        names=("solo piano", "piano music", "piano piece", "classical piano"),
        moods=("gentle", "romantic", "calm"),
        kit=None,
        grooves=(),
        bass=(Part(0, "piano", ("x-x-x-x-x-x-x-x-", "x---x---x---x---", "x-------x-------"), 50, 55),),
        leads=(
            Part(
                0,
                "piano",
                ("x---x---x---x---", "x-----x-x---x---", "x-x-x---x-x-x---", "x--x--x-x--x--x-", "x---x-x-x---x-x-"),
                72,
                85,
            ),
        ),
        walk=True,
    ),
}
