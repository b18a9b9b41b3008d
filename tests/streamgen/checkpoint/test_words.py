"""The normaliser on the shipped words: strangers' prompts, other languages, and captions it must leave as they are."""

from __future__ import annotations

import random

import pytest

from streamgen.checkpoint.files import read_json
from streamgen.checkpoint.vocabulary import WORDS_FILE, Vocabulary, read_vocabulary, suggested, words_of
from streamgen.checkpoint.words import WORDINGS, hear
from streamgen.pocket import pocket_folder
from streamgen.pocket.training.captions import caption
from streamgen.pocket.training.compose import FRAMES_PER_STEP, KEY_NAMES, training_song
from streamgen.pocket.training.strangers import PROMPTS
from streamgen.pocket.training.styles import STYLES


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    found = read_vocabulary(pocket_folder())
    assert found is not None
    return found


def test_the_file_knows_what_training_taught(words: Vocabulary) -> None:
    assert words.bar_frames == {bpm: 16 * frames for bpm, frames in FRAMES_PER_STEP.items()}
    assert words.tonics == tuple(KEY_NAMES.values())
    assert words.styles.keys() == STYLES.keys()
    for name, style in words.styles.items():
        trained = STYLES[name]
        assert style.say in trained.names
        assert style.moods == trained.moods
        assert style.key.endswith("minor" if trained.minor else "major")
        roles = [{part.word for part in role} for role in (trained.bass, trained.chords, trained.leads) if role]
        drums = [{"drums"}] if trained.kit is not None else []
        assert {frozenset(part) for part in style.parts} == {frozenset(role) for role in [*drums, *roles]}


def test_a_caption_in_training_words_keeps_its_meaning(words: Vocabulary) -> None:
    rng = random.Random(0)
    for number in range(200):
        song = training_song(number)
        heard = hear(caption(song, rng, complete=True), words)
        assert (heard.style, heard.tempo_bpm, heard.key) == (song.style, song.bpm, song.key)
        assert set(heard.instruments) == set(song.instruments)
        assert (heard.moods, heard.unheard) == ((song.mood,), ())
        assert hear(heard.prompt, words) == heard, "what it says it hears as it said it"


@pytest.mark.parametrize(("prompt", "style"), [(p, s) for p, s in PROMPTS.items() if s])
def test_strangers_get_the_style_they_mean(prompt: str, style: str, words: Vocabulary) -> None:
    assert hear(prompt, words).style == style


@pytest.mark.parametrize(
    ("style", "prompts"),
    [
        ("chiptune", ("8 bit game", "computer game", "circus")),
        ("orchestral", ("boss fight", "vivaldi", "medieval tavern", "western", "haunted house", "action movie")),
        ("jazz", ("elevator music", "boogie woogie", "detective noir")),
        ("rock", ("shoegaze", "surf", "anime opening")),
        ("lofi", ("coding music", "lofi girl")),
        ("ambient", ("birds and waves", "minecraft", "moonlight", "sitar")),
        ("drum and bass", ("drill", "phonk")),
        ("funk", ("gospel", "tango", "african drums")),
        ("house", ("synthwave", "k-pop", "amapiano")),
        ("techno", ("idm", "glitch")),
        ("piano", ("einaudi", "folk song", "winter morning", "night piano")),
    ],
)
def test_what_is_asked_for_every_day_is_no_unknown_word(
    style: str, prompts: tuple[str, ...], words: Vocabulary
) -> None:
    assert {prompt: hear(prompt, words).style for prompt in prompts} == dict.fromkeys(prompts, style)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("house", "house, drums, synth bass, piano, 125 bpm, in A minor"),
        ("", "house, drums, synth bass, piano, 125 bpm, in A minor"),
        ("HOUSE with a SAW SYNTH!!", "house, drums, synth bass, saw synth, 125 bpm, in A minor"),
        ("slow jazz", "jazz trio, drums, double bass, piano, 94 bpm, in F major"),
        ("techno 140", "techno, drums, synth bass, synth lead, 150 bpm, in A minor"),
        ("techno at 128 bpm in f# minor", "techno, drums, synth bass, synth lead, 125 bpm, in F minor"),
        ("rock ohne Schlagzeug", "solo piano, piano, 150 bpm, in A major"),
        ("reggae, no guitar, b flat major", "reggae, drums, bass, organ, 94 bpm, in A major"),
        ("Orchester, schnell, h-moll", "orchestral, contrabass, strings, french horn, 150 bpm, in C minor"),
        ("lofi in Em", "lofi hip hop, drums, bass, electric piano, 94 bpm, in E minor"),
        ("batería y guitarra eléctrica", "rock, drums, electric bass, distorted guitar, 150 bpm, in A major"),
        ("no big drums, house", "orchestral, contrabass, strings, french horn, 125 bpm, in A minor"),
        ("relaxing music with organ, no drums", "ambient, church organ, harp, 94 bpm, in A minor"),
        ("piano and drums", "house, drums, synth bass, piano, 125 bpm, in A minor"),
        ("piano and strings", "solo piano, piano, 94 bpm, in A major"),
        ("strings and piano", "orchestral, contrabass, strings, french horn, 125 bpm, in D minor"),
        ("sad violin", "orchestral, contrabass, strings, french horn, 125 bpm, in D minor"),
        ("sad but happy", "solo piano, piano, 94 bpm, in A major"),
        ("don't stop the reggae", "reggae, drums, bass, organ, 94 bpm, in D major"),
        ("jazz non-stop, no end", "jazz trio, drums, double bass, piano, 125 bpm, in F major"),
        ("reggae, bass, guitar", "reggae, drums, bass, guitar, 94 bpm, in D major"),
        ("reggae drums bass guitar", "reggae, drums, bass, guitar, 94 bpm, in D major"),
        ("electric piano house", "house, drums, synth bass, piano, 125 bpm, in A minor"),
        ("no piano", "house, drums, synth bass, saw synth, 125 bpm, in A minor"),
        ("solo piano without piano", "solo piano, piano, 94 bpm, in A major"),
        ("faster", "house, drums, synth bass, piano, 150 bpm, in A minor"),
        ("reggae, faster", "reggae, drums, bass, organ, 125 bpm, in D major"),
        ("house, slow it down", "house, drums, synth bass, piano, 94 bpm, in A minor"),
        ("lofi, twice as fast", "lofi hip hop, drums, bass, electric piano, 150 bpm, in A minor"),
        ("something happy in a major key", "chiptune, drums, synth bass, square wave, 150 bpm, in C major, happy"),
        ("D&B", "drum and bass, drums, sub bass, warm pad, 150 bpm, in A minor"),
        ("soft music", "solo piano, piano, 94 bpm, in A major"),
        ("🎸🥁", "rock, drums, electric bass, distorted guitar, 150 bpm, in A major"),
        ("chiptune 60 bpm", "chiptune, drums, synth bass, square wave, 94 bpm, in C major"),
    ],
)
def test_what_is_not_said_is_filled_in_from_the_style(prompt: str, wanted: str, words: Vocabulary) -> None:
    assert hear(prompt, words).prompt == wanted


def test_what_is_suggested_is_understood_and_as_many_sided_as_the_model(words: Vocabulary) -> None:
    heard = [hear(prompt, words) for prompt in suggested(words)]
    assert [one.style for one in heard] == list(words.styles)
    assert all(one.left_out == () for one in heard)
    assert all(one.unheard == () for one in heard)
    assert len(set(suggested(None))) >= 8


def test_who_wants_no_drums_hears_none_in_the_tempo_and_key_that_were_meant(words: Vocabulary) -> None:
    """Each bar of a style in training had all its roles: what a prompt left unsaid was played all the same."""
    for name, style in words.styles.items():
        usual, calm = hear(style.say, words), hear(f"{style.say}, no drums", words)
        assert "drums" not in calm.instruments
        assert (calm.tempo_bpm, calm.key) == (usual.tempo_bpm, usual.key)
        assert ("drums" in usual.instruments) == (calm.style != name)


def test_numbers_that_are_no_tempo_stay_words(words: Vocabulary) -> None:
    for prompt in ("acid techno 303", "8-bit", "70s funk", "trap beat with 808s", "24/7 lofi"):
        heard = hear(prompt, words)
        assert heard.tempo_bpm == words.styles[heard.style].tempo_bpm, prompt


def test_prompts_that_are_one_to_the_model_are_told_apart_by_their_words_alone(words: Vocabulary) -> None:
    castle, song = hear("haunted castle", words), hear("christmas song", words)
    assert castle == song
    assert 0 < castle.wording <= WORDINGS
    assert castle.wording == 756_615, "the same in every process and version: seeds are written down"
    assert song.wording != castle.wording
    for same in ("Haunted Castle!", " haunted,castle", "haunted castle, 125 bpm", "haunted castle at 93.5 bpm"):
        assert hear(same, words).wording == castle.wording, same
    assert hear("haunted castle", words).wording != hear("castle haunted", words).wording
    assert hear(castle.prompt, words).wording == hear(castle.prompt.upper(), words).wording == 0


def test_what_was_not_understood_is_told(words: Vocabulary) -> None:
    heard = hear("shimmering house for my grandmother", words)
    assert heard.unheard == ("shimmering", "grandmother")
    assert heard.told() == f"{heard.prompt}; not understood: shimmering grandmother"
    assert hear("house", words).told() == "house, drums, synth bass, piano, 125 bpm, in A minor"


@pytest.mark.parametrize(
    ("prompt", "left_out", "unheard"),
    [
        ("jazz in C# minor", ("C# minor",), ()),
        ("jazz in C minor", ("minor",), ()),
        ("sad piano", ("sad",), ()),
        ("sad house", (), ()),
        ("120bpm house piano in Bb major", ("120 bpm", "Bb major"), ()),
        ("drum and bass 174, in F#", ("174 bpm", "in F#"), ()),
        ("techno, 125.5 bpm, in D", (), ()),
        ("house, from 94 to 150 bpm", ("94 to 150 bpm",), ()),
        ("русский рок", (), ("русский",)),
        ("slow fast house", ("fast",), ()),
        ("house techno rock jazz", ("techno", "rock", "jazz"), ()),
        ("jazz with distorted guitar", ("distorted guitar",), ()),
        ("solo piano and drums", ("drums",), ()),
        ("house w/o krummhorn, w/ piano", (), ("without", "krummhorn")),
        ("dark house", ("dark",), ()),
        ("solo piano in A minor", ("minor",), ()),
        ("solo piano without piano", ("no piano",), ()),
        ("drum and bass without drum and bass", ("no drum and bass",), ()),
        ("house without drums", ("house",), ()),
        ("house, no bass", ("no bass",), ()),
        ("house, no synths", ("no synths",), ()),
        ("jazz, no synth", (), ()),
        ("never any guitar, rock", ("no guitar",), ()),
        ("rock with vocals", ("vocals",), ()),
        ("instrumental rock, no vocals", (), ()),
        ("rock with guitar", (), ()),
        ("lofi with piano", (), ()),
        ("epic", (), ()),
        ("house, drums: no", (), ("no",)),
        ("house without a krummhorn", (), ("without", "krummhorn")),
        ("ピアノ 🦄 krummhorn", (), ("🦄", "krummhorn")),
        ("house 🎤🥁", ("🎤",), ()),
        ("drum and bass, faster", ("faster",), ()),
        ("reggae, slower", ("slower",), ()),
        ("chiptune, faster, slower", ("faster", "slower"), ()),
        ("jazz, not slower", (), ()),
        ("jazz, faster, 94 bpm", ("faster",), ()),
        ("house in minor", (), ()),
        ("house in major, rock in minor", ("major", "rock"), ()),
        ("techno in F# dorian", ("dorian", "F#"), ()),
        ("piano in B flat, loud", ("loud", "in B flat"), ()),
        ("house, less drums", (), ("less",)),
        ("house in A minor, C# major, G minor", ("C# major", "G minor"), ()),
        ("house, just drums, only piano", (), ("just", "only")),
        ("I want to hear jazz, can you play it now?", (), ()),
        ("orchestra without drums and bass", ("no bass",), ()),
        ("orchestra with bass", (), ()),
        ("techno at 10 pm", (), ("10", "pm")),
        ("60 minutes of sleep music", (), ("60", "minutes")),
        ("op. 101 sonata", (), ("op", "101")),
        ("фоновый шум", (), ("фоновый", "шум")),
        ("F## minor techno at -94 bpm", (), ("94", "bpm")),
    ],
)
def test_nothing_that_is_said_is_left_out_in_silence(
    prompt: str, left_out: tuple[str, ...], unheard: tuple[str, ...], words: Vocabulary
) -> None:
    heard = hear(prompt, words)
    assert (heard.left_out, heard.unheard) == (left_out, unheard)
    assert all(word.removeprefix("no ") in heard.told() for word in (*left_out, *unheard))


def test_what_cannot_be_left_out_is_told_by_its_own_name(words: Vocabulary) -> None:
    heard = hear("jazz without piano or bass, 110 bpm, 🦄🦄", words)
    assert heard.left_out == ("no piano", "no bass", "110 bpm")
    assert heard.told() == f"{heard.prompt}; left out: 110 bpm; cannot leave out: piano, bass; not understood: 🦄"


@pytest.mark.parametrize(
    ("prompt", "style", "instruments"),
    [
        ("no bass no drums house", "orchestral", ("contrabass", "strings", "french horn")),
        ("without drums and bass", "orchestral", ("contrabass", "strings", "french horn")),
        ("jazz, no drums or bass", "piano", ("piano",)),
        ("jazz without drums and slow", "piano", ("piano",)),
        ("don't play drums", "orchestral", ("contrabass", "strings", "french horn")),
        ("jazz sans batterie ni basse", "piano", ("piano",)),
        ("orchestral, no french horn, no drums", "orchestral", ("contrabass", "strings", "flute")),
        ("reggae without organ", "reggae", ("drums", "bass", "guitar")),
        ("jazz w/out drums", "piano", ("piano",)),
        ("house -piano", "house", ("drums", "synth bass", "saw synth")),
        ("not house", "techno", ("drums", "synth bass", "synth lead")),
        ("no techno, but piano", "piano", ("piano",)),
        ("house, not too fast", "house", ("drums", "synth bass", "piano")),
        ("a beatless ambient track", "ambient", ("warm pad", "harp")),
        ("drumless jazz", "piano", ("piano",)),
        ("jazz with neither drums nor bass", "piano", ("piano",)),
        ("weder Schlagzeug noch Bass, Jazz", "piano", ("piano",)),
        ("jazz, ni batterie ni basse", "piano", ("piano",)),
        ("I don't want any drums, jazz", "piano", ("piano",)),
        ("stop playing house", "techno", ("drums", "synth bass", "synth lead")),
        ("turn off the drums, funk", "piano", ("piano",)),
        ("house, remove the piano", "house", ("drums", "synth bass", "saw synth")),
    ],
)
def test_what_is_not_wanted_is_not_played(
    prompt: str, style: str, instruments: tuple[str, ...], words: Vocabulary
) -> None:
    heard = hear(prompt, words)
    assert (heard.style, heard.instruments, heard.unheard) == (style, instruments, ())


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("静かなピアノ", "solo piano, piano, 94 bpm, in A major"),
        ("ドラムなしのローファイ", "ambient, warm pad, harp, 94 bpm, in A minor"),
        ("ピアノ抜き、ハウス", "house, drums, synth bass, saw synth, 125 bpm, in A minor"),
        ("música calma para dormir", "ambient, warm pad, harp, 94 bpm, in A minor"),
        ("lento, violini", "orchestral, contrabass, strings, french horn, 94 bpm, in D minor"),
        ("ジャズ、遅い", "jazz trio, drums, double bass, piano, 94 bpm, in F major"),
        ("langsamer Techno ohne Schlagzeug", "orchestral, contrabass, strings, french horn, 94 bpm, in A minor"),
        ("Techno, langsamer, ohne Schlagzeug", "orchestral, contrabass, strings, french horn, 94 bpm, in A minor"),
        ("piano en do mineur, lentement", "solo piano, piano, 94 bpm, in C major"),
        ("house in C, 120-130 bpm", "house, drums, synth bass, piano, 125 bpm, in C minor"),
    ],
)
def test_other_languages_and_spellings_are_heard(prompt: str, wanted: str, words: Vocabulary) -> None:
    heard = hear(prompt, words)
    assert (heard.prompt, heard.unheard) == (wanted, ())


@pytest.mark.parametrize(
    ("prompt", "style", "unheard"),
    [
        ("хаус", "house", ""),
        ("быстрое техно", "techno", ""),
        ("лоу-фай хип-хоп", "lofi", ""),
        ("грустное фортепиано", "piano", ""),
        ("спокойная музыка", "ambient", ""),
        ("джаз без ударных", "piano", ""),
        ("爵士", "jazz", ""),
        ("电子", "house", ""),
        ("氛围音乐", "ambient", ""),
        ("我想听安静的钢琴", "piano", ""),
        ("没有鼓的爵士乐", "piano", ""),
        ("快速的摇滚", "rock", ""),
        ("我很喜欢钢琴啊", "piano", "我很喜欢 啊"),
        ("재즈를 틀어줘", "jazz", ""),
        ("드럼 없는 재즈", "piano", ""),
        ("잔잔한 피아노와 기타", "piano", ""),
        ("snelle techno zonder drums", "orchestral", ""),
        ("spokojna muzyka bez perkusji", "ambient", ""),
        ("långsam house", "house", ""),
        ("暗くて速いテクノ", "techno", "暗くて"),
        ("音楽学校", "house", "学校"),
    ],
)
def test_words_of_six_more_languages_name_styles_instruments_tempo_and_what_is_not_wanted(
    prompt: str, style: str, unheard: str, words: Vocabulary
) -> None:
    heard = hear(prompt, words)
    assert (heard.style, " ".join(heard.unheard)) == (style, unheard)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("saxophone", "saxophone played as brass"),
        ("accordions and a clarinet", "accordions played as organ; left out: clarinet"),
        ("acoustic guitar, rock", "acoustic guitar played as distorted guitar"),
        ("acoustic guitar by the sea", "acoustic guitar played as harp"),
        ("folk with acoustic guitar and drums", "acoustic guitar played as guitar; left out: folk"),
        ("ukulele", "ukulele played as guitar"),
        ("tango", "tango played as funk"),
        ("dubstep", "dubstep played as drum and bass"),
        ("rap", "rap played as lofi hip hop"),
        ("jazz saxophone", "left out: saxophone"),
        ("jazz, no saxophone", ""),
        ("salsa, no drums", "left out: salsa"),
        ("klezmer techno", "left out: klezmer"),
        ("jazz house", "jazz house played as house"),
        ("jazz, house", "left out: house"),
        ("jazz + house", "left out: house"),
        ("rock the baby to sleep", ""),
        ("without 174 bpm techno", ""),
        ("house, but not 125 bpm", "cannot leave out: 125 bpm"),
        ("pas de 125 bpm, techno", "cannot leave out: 125 bpm"),
        ("horns, violin, flute, percussion", "left out: horns, percussion"),
    ],
)
def test_what_it_does_not_have_is_told_with_what_plays_in_its_place(prompt: str, told: str, words: Vocabulary) -> None:
    heard = hear(prompt, words)
    assert heard.told() == "; ".join(filter(None, (heard.prompt, told)))


def test_what_is_played_in_place_of_something_is_said_of_known_phrases_alone(words: Vocabulary) -> None:
    """A slip in the list itself would never be told."""
    for phrase in read_json(pocket_folder() / WORDS_FILE)["nearest"]:
        assert any(meaning.nearest for meaning in words.lexicon[tuple(words_of(phrase))]), phrase
    assert hear("rock the baby to sleep", words).style == "piano"
    assert hear("without 174 bpm techno", words).style == "techno"


def test_how_loud_a_prompt_is_adds_up_from_what_is_heard_in_it(words: Vocabulary) -> None:
    table = words.styles["house"].loudness_db
    heard = hear("energetic house with a saw synth, 150 bpm, in F", words)
    assert heard.loudness_db == pytest.approx(table[""] + table["saw synth"] + table["150"] + table["F"])
    assert heard.loudness_db > hear("house in A", words).loudness_db + 1, "A minor's bass is lower and softer"
    assert all(abs(hear(name, words).loudness_db) < 4 for name in words.styles)


def test_other_instruments_are_neither_asked_for_nor_unwanted(words: Vocabulary) -> None:
    """Of two that are not wanted one plays: not both in turns."""
    assert hear("house", words).others == ("saw synth",)
    named = ("house with a saw synth", "house ohne klavier", "house, no piano, no synth", "reggae, no spanish guitar")
    assert not [text for text in named if hear(text, words).others]


def test_phrases_are_told_apart_by_no_one_twice(words: Vocabulary) -> None:
    """One phrase names one style, one instrument, one tempo: else the file's order would decide.

    What there is not may be near to two instruments: a style that has one of them is as good as one that has the other.
    """
    for phrase, meanings in words.lexicon.items():
        near = [meaning for meaning in meanings if meaning.nearest and meaning.kind == "instrument"]
        kinds = [
            meaning.kind for meaning in meanings if meaning.kind not in ("mood", "small") and meaning not in near[1:]
        ]
        assert len(kinds) == len(set(kinds)), phrase


def test_words_are_compared_without_accents_case_and_marks() -> None:
    said = words_of("Música Électronique: drum & Bass, 8-bit, Straße!")
    assert said == ["musica", "electronique", ",", "drum", "and", "bass", ",", "8", "bit", ",", "strasse", ","]
    assert words_of("静かなピアノ曲、don't ♪") == ["静かな", "ピアノ", "曲", ",", "dont", "♪"]


def test_a_folder_without_words_has_none(tmp_path: object) -> None:
    assert read_vocabulary(pocket_folder().parent / "training") is None
