from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.session.arranger import DEFAULT_SCENE, Arranger, Part, read_scene
from streamgen.checkpoint import Heard
from streamgen.checkpoint.vocabulary import Vocabulary, read_vocabulary
from streamgen.checkpoint.words import hear
from streamgen.errors import ConfigError, PromptError
from streamgen.pocket import pocket_folder
from streamgen.testing.fake import HOP_SAMPLES as HOP

from .rig import bars_of_a_second as heard

SCENE = (Part("theme", 2, take="a"), Part("break", 1, words="no drums"), Part("higher", 1, semitones=5))
BAR = 50 * HOP


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    found = read_vocabulary(pocket_folder())
    assert found is not None
    return found


def arranger(hears: bool = True, scene: tuple[Part, ...] = SCENE) -> Arranger:
    return Arranger(scene, heard if hears else lambda _: None, 50.0, HOP)


def test_parts_dress_the_prompt_and_only_a_take_that_is_named_comes_again() -> None:
    one = arranger()
    told = []
    for _ in range(6):
        told.append(one.dressed([("house", 1.0)]))
        one.advance()
    assert [row["prompts"][0][0] for row in told[:3]] == ["house", "no drums, house", "in D minor, house"]
    takes = [row["take"] for row in told]
    assert takes[0] == takes[3]
    assert len(set(takes)) == 5


def test_a_model_that_reads_prompts_as_typed_is_told_words_alone() -> None:
    one = arranger(hears=False)
    assert one.dressed([("house", 1.0)]) == {"prompts": [("house", 1.0)]}
    one.advance()
    assert one.dressed([("house", 1.0)]) == {"prompts": [("no drums, house", 1.0)]}
    assert one.dressed([]) == {"prompt": None}


def test_a_part_has_the_styles_other_instruments_where_nobody_asked_for_one() -> None:
    def hears(text: str) -> Heard:
        return replace(heard(text), others=() if "piano" in text else ("saw synth",))

    one = Arranger((Part("second", 1, words="slow", semitones=5, others=True),), hears, 50.0, HOP)
    told = [one.dressed([(text, 1.0)])["prompts"][0][0] for text in ("house", "house, piano")]
    assert told == ["slow, saw synth, in D minor, house", "slow, in D minor, house, piano"]
    assert one.part_samples([("house", 1.0)]) == BAR


def test_the_shipped_scene_brings_other_instruments_to_the_shipped_checkpoint(words: Vocabulary) -> None:
    """Six of its twelve styles have some; in the second half alone, and back to its own with the theme."""

    def played(text: str) -> list[str]:
        one, found = Arranger(read_scene(), lambda text: hear(text, words), 50.0, HOP), list[str]()
        for part in read_scene():
            dressed = one.dressed([(text, 1.0)])["prompts"][0][0]
            found += [", ".join(hear(dressed, words).instruments)] if not part.words else []
            one.advance()
        return found

    assert played("house") == sorted(played("house")), "piano, then saw synth"
    assert len(set(played("house"))) == len(set(played("orchestral"))) == 2
    assert len(set(played("house with a piano"))) == len(set(played("techno"))) == 1


def test_other_instruments_change_neither_style_nor_key_nor_tempo(words: Vocabulary) -> None:
    """Where no style is named an instrument hints at one: "party, no drums" would go on in an orchestra's D minor."""

    def played(text: str, said: str = "") -> tuple[str, str]:
        part = Part("second", 1, words=said, others=True)
        one = Arranger((part,), lambda text: hear(text, words), 50.0, HOP)
        found = hear(one.dressed([(text, 1.0)])["prompts"][0][0], words)
        return found.instruments[-1], f"{found.style}, {found.tempo_bpm}, {found.key}"

    assert played("party, no drums") == ("french horn", "orchestral, 125, A minor")
    assert played("sub bass no drum kit") == ("french horn", "orchestral, 150, A minor")
    assert played("house, no drums") == ("flute", "orchestral, 125, A minor")
    assert played("house", "no drums") == ("flute", "orchestral, 125, A minor"), "those of the style that a part plays"
    assert played("house", "piano") == ("piano", "house, 125, A minor"), "named by the part"


def test_a_part_is_as_long_as_the_bars_of_its_prompt() -> None:
    one = arranger()
    assert one.part_samples([("house", 1.0)]) == 2 * BAR
    typed = arranger(hears=False)
    assert typed.part_samples([("techno, 150 bpm", 1.0)]) == 2 * 80 * HOP
    assert typed.part_samples([("techno", 1.0)]) == 2 * 100 * HOP, "at 120, where no tempo is named"


def test_a_part_whose_words_name_a_tempo_has_bars_of_that() -> None:
    scene = (Part("slow", 2, words="75 bpm"),)
    typed = arranger(hears=False, scene=scene)
    assert typed.part_samples([("techno, 150 bpm", 1.0)]) == 2 * 160 * HOP
    slow = Arranger(scene, lambda text: replace(heard(text), bar_frames=160 if "75" in text else 50), 50.0, HOP)
    assert slow.part_samples([("house", 1.0)]) == 2 * 160 * HOP


def test_a_prompt_without_room_for_the_words_of_a_part_is_told_before_it_plays() -> None:
    one = arranger()
    one.check([("h" * 1_980, 1.0)])
    with pytest.raises(PromptError, match="1,990 characters, 2,002 with what the scene's part 'higher' says"):
        one.check([("house", 1.0), ("h" * 1_990, 1.0)])


def test_the_shipped_scene_is_one_and_a_bad_one_is_told(tmp_path: Path) -> None:
    assert len(read_scene(DEFAULT_SCENE)) > 3
    for text, complaint in {
        "": "1 … 64 parts",
        "[[part]]\nname = 1": "must be a text",
        "[[part]]\nbars = 0": "bars is 0",
        "[[part]]\nbars = 2\nsemitones = 40": "semitones is 40",
        "[[part]]\nbars = 2\nspeed = 1": "'speed'",
        "[[part]]\nbars = 2\nothers = 1": "others is 1, must be true or false",
        "[[part]]\nbars = true": "bars is True, must be a whole number",
        "[[part": "cannot be read",
        "part = [1, 2]": "part 1 of .* is 1, must be a table",
        'part = [""]': "must be a table",
        "part = [[]]": "must be a table",
        "[[part]]\nbars = 1\n[[prat]]\nbars = 1": "has 'prat'",
        "[[part]]\nbars = 1\nwords = '" + "x" * 201 + "'": "one line of at most 200 letters",
        '[[part]]\nbars = 1\nname = "\\u001b[31mred"': "one line of at most 200 letters",
    }.items():
        path = tmp_path / "scene.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=complaint):
            read_scene(path)
