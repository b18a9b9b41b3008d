"""The rule on the shipped words: what people mistype is found, what is a word of its own is left."""

from __future__ import annotations

import pytest

from streamgen.checkpoint.spelling import Spelling
from streamgen.checkpoint.vocabulary import read_vocabulary
from streamgen.checkpoint.words import hear
from streamgen.pocket import pocket_folder

MISTYPED = {
    "techo": "techno", "reggea": "reggae", "regae": "reggae", "ambiant": "ambient", "orchestal": "orchestral",
    "dubstp": "dubstep", "pianno": "piano", "synthwav": "synthwave", "drumandbass": "drum and bass",
    "slwo": "slow", "tecnho": "techno", "chiptun": "chiptune", "saxaphone": "saxophone", "acordian": "accordion",
    "ukelele": "ukulele", "orchastrel": "orchestral", "jungel": "jungle", "technomusic": "techno music",
    "loffi": "lofi", "gutars": "guitar",
}  # fmt: skip
# words of English, German, French and Spanish that lie near a known one, and names
MEANT = """
hose horse house's rocks tuna bars price grave path rocket funny rage lock bands trance trace cells codes
cords cores meal metals county mental garbage handle mediation medication therein undertake trammel fleet
seller felt foil strikers faster foster factor best bear beast bead cape dram drug fund punk plank rack rick
slot show share snake spare concert concerts recorded moderated satire preclude bacteria grange jingle juggle
shower quirk large marie boat load lore tube vote power flower gegen einem junge barque voila lutte melodia
preso cerdas traer
"""


@pytest.fixture(scope="module")
def spelling() -> Spelling:
    words = read_vocabulary(pocket_folder())
    assert words is not None
    return words.spelling


@pytest.mark.parametrize(("typed", "meant"), MISTYPED.items())
def test_a_slip_is_taken_for_the_word_that_it_is_a_slip_of(typed: str, meant: str, spelling: Spelling) -> None:
    assert spelling.mended([typed]) == [(typed, tuple(meant.split()))]


@pytest.mark.parametrize("word", MEANT.split())
def test_a_word_of_its_own_is_left_as_it_is(word: str, spelling: Spelling) -> None:
    assert spelling.mended([word]) == [(word, (word,))]


def test_a_word_within_a_phrase_is_known_by_those_beside_it(spelling: Spelling) -> None:
    said = ["an", "electrc", "guitar", "and", "a", "string", "quartt"]
    assert [one for _, phrase in spelling.mended(said) for one in phrase] == [
        "an", "electric", "guitar", "and", "a", "string", "quartet",
    ]  # fmt: skip
    assert spelling.mended(["electrc", "light"])[0] == ("electrc", ("electrc",))


def test_of_two_words_as_near_that_mean_different_things_none_is_taken() -> None:
    known = Spelling({("grainger",): "a", ("grainier",): "b", ("rapida",): "fast", ("rapide",): "fast"}, ())
    assert known.mended(["grainer"]) == [("grainer", ("grainer",))]
    assert known.mended(["rapdia", "rapdie"]) == [("rapdia", ("rapida",)), ("rapdie", ("rapide",))]


def test_no_other_script_and_no_known_word_is_touched(spelling: Spelling) -> None:
    said = ["техна", "ピアナ", "808", "🎷", "drums", "rooftops", "ü"]
    assert spelling.mended(said) == [(word, (word,)) for word in said]


def test_what_was_taken_for_another_word_is_told() -> None:
    words = read_vocabulary(pocket_folder())
    assert words is not None
    heard = hear("regae, no pianno, shimmering", words)
    assert heard.taken_for == (("regae", "reggae"), ("pianno", "piano"))
    assert heard.told() == (
        f'{heard.prompt}; "regae" taken for reggae, "pianno" taken for piano; not understood: shimmering'
    )
