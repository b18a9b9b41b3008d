"""Distances, pitches and rows whose answer is known; and both listeners, where the extra `judge` is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamgen.pocket import pocket_folder
from streamgen.pocket.training import outside, outside_ears
from streamgen.pocket.training.__main__ import main
from streamgen.pocket.training.compose import DRUM_CHANNEL, Loop, Note, Song
from streamgen.pocket.training.outside import (
    Hearing,
    frechet_distance,
    judge_outside,
    nearness_rows,
    pitch_rows,
    pitches_written,
    tag_row,
)
from streamgen.pocket.training.outside_ears import (
    ListenersMissingError,
    PitchListener,
    TagListener,
    main_pitches,
    patches,
)
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ, SOUNDFONT

MISSING = [name for name in outside_ears.PACKAGES if importlib.util.find_spec(name) is None]
needs_listeners = pytest.mark.skipif(bool(MISSING), reason="extra judge is not installed")
theirs = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # audioread's imports, in Python before 3.13
    "ignore:invalid value encountered:RuntimeWarning:basic_pitch",  # by silence
)


def drawn(count: int, mean: np.ndarray, root: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rows whose mean is just that, and whose covariance is root @ root.T."""
    rows = np.random.default_rng(seed).standard_normal((count, len(mean)))
    rows -= rows.mean(0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return np.asarray(rows @ root.T + mean)


def slow_frechet(some: np.ndarray, others: np.ndarray) -> float:
    """By the root of the product itself, found by Denman and Beavers' iteration."""
    first, second = np.cov(some, rowvar=False), np.cov(others, rowvar=False)
    root, inverse = first @ second, np.eye(len(first))
    for _ in range(40):
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    assert np.allclose(root @ root, first @ second)
    between = some.mean(0) - others.mean(0)
    return float(between @ between + np.trace(first + second - 2 * root))


def test_the_distance_of_gaussians_with_common_axes_is_that_of_means_and_deviations() -> None:
    some, others = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.1])
    shift = np.array([0.3, -1.0, 2.0])
    found = frechet_distance(drawn(50, np.zeros(3), np.diag(some)), drawn(80, shift, np.diag(others), seed=1))
    assert found == pytest.approx(np.sum(shift**2) + np.sum((some - others) ** 2))


def test_the_distance_is_that_by_the_root_of_the_product() -> None:
    rng = np.random.default_rng(2)
    some, others = (rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6)) for _ in range(2))
    assert frechet_distance(some, others) == pytest.approx(slow_frechet(some, others))
    assert frechet_distance(some, others) == pytest.approx(frechet_distance(others, some))


def test_the_distance_holds_with_fewer_rows_than_units() -> None:
    rng = np.random.default_rng(3)
    some, others = rng.standard_normal((9, 20)), rng.standard_normal((12, 20)) + 0.5
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-5)
    centred = [rows - rows.mean(0) for rows in (some, others)]
    shared = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum() / np.sqrt(8 * 11)
    spread = sum((rows**2).sum() / (len(rows) - 1) for rows in centred)
    expected = np.sum((some.mean(0) - others.mean(0)) ** 2) + spread - 2 * shared
    assert frechet_distance(some, others) == pytest.approx(expected, rel=1e-5)


def test_main_pitches_are_those_from_d4_up_with_a_tenth_of_what_sounds() -> None:
    notes = [(0.0, 8.0, 61, 1.0), (0.0, 1.0, 62, 0.5), (1.0, 2.0, 62, 0.5), (2.0, 3.0, 74, 1.0), (3.0, 3.2, 86, 1.0)]
    assert main_pitches(notes) == {62, 74}
    assert main_pitches([*notes, (4.0, 4.05, 86, 1.0)]) == {62, 74, 86}
    assert main_pitches([(0.0, 1.0, 40, 1.0)]) == main_pitches([]) == set()


def test_a_score_has_the_pitches_of_its_groove_without_the_drums() -> None:
    notes = (Note(DRUM_CHANNEL, 76, 127, 0, 16), Note(0, 72, 60, 0, 4), Note(0, 79, 60, 4, 4), Note(1, 38, 90, 0, 16))
    other = Loop((Note(0, 90, 60, 0, 16),), {0: 80})
    song = Song("chiptune", 125, 0, "happy", ("square wave",), (Loop(notes, {0: 80, 1: 38}), other))
    assert pitches_written(song) == {72, 79}


def hearing(kind: str, seed: int | None, text: str, style: str, pitches: list[int] | None, tags: str) -> Hearing:
    rows = np.random.default_rng(len(kind) + (seed or 0)).standard_normal((5, 3))
    return Hearing(kind, seed, text, style, pitches, 3, tags.split(), rows)


HEARD = [
    *(hearing("other", None, "", style, None, "j k l") for style in ("piano", "chiptune", "house")),
    hearing("real", None, "one", "piano", [72, 74, 76], "a b c"),
    hearing("codec", None, "one", "piano", [72, 74], "a b d"),
    hearing("real", None, "two", "chiptune", [80, 82, 84, 86, 88], "a e f"),
    hearing("codec", None, "two", "chiptune", [80], "a e f"),
    hearing("real", None, "three", "house", None, "g h i"),
    hearing("codec", None, "three", "house", None, "g h i"),
    *(hearing("generated", seed, "one", "piano", [72], "a x y") for seed in (0, 1000)),
    *(hearing("generated", seed, "two", "chiptune", [80] * (seed > 0), "x y z") for seed in (0, 1000)),
    *(hearing("generated", seed, "three", "house", None, "g x y") for seed in (0, 1000)),
]


def test_pitches_are_counted_of_leads_alone_in_all_and_by_style() -> None:
    everything, piano, chiptune = pitch_rows(HEARD)
    assert everything.name.endswith("2 songs")
    assert everything.values == {"real": 4.0, "codec": 1.5, "generated": 0.75}
    assert piano.values == {"real": 3.0, "codec": 2.0, "generated": 1.0}
    assert chiptune.name.endswith("1 chiptune")
    assert chiptune.values["generated"] == 0.5
    assert everything.chance == "3 (in the score)"
    assert not pitch_rows([one for one in HEARD if one.style == "house"])


def test_nearness_is_the_mean_over_seeds_and_each_of_them() -> None:
    rows = nearness_rows(HEARD)
    features = {
        key: np.concatenate([one.features for one in HEARD if (one.kind, one.seed) == key])
        for key in (("real", None), ("codec", None), ("other", None), ("generated", 0), ("generated", 1000))
    }
    real, codec, other, *played = features.values()
    assert rows[0].name.endswith("15 patches")
    assert rows[0].chance == f"{frechet_distance(real, other):.3g} (as many other real songs)"
    own, away = frechet_distance(real, codec), [frechet_distance(real, one) for one in played]
    assert [row.values["generated"] for row in rows[1:3]] == pytest.approx(away)
    assert rows[0].values == pytest.approx({"codec": own, "generated": np.mean(away)})
    assert rows[3].values["generated"] == pytest.approx(np.mean(away) / own)
    assert rows[4].values["generated"] == pytest.approx(np.mean([frechet_distance(codec, one) for one in played]))


def test_tags_are_shared_with_the_same_song_and_by_chance_with_another() -> None:
    row = tag_row(HEARD)
    assert row.values == pytest.approx({"real": 3.0, "codec": 8 / 3, "generated": 2 / 3})
    assert row.chance == "0.33 (another song)"  # of three pairs one has "a" in common


def test_a_missing_package_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside_ears, "PACKAGES", ("json", "no_such_listener"))
    with pytest.raises(ListenersMissingError, match=r"no_such_listener, not installed here: pip install .*--no-deps"):
        judge_outside(tmp_path / "nowhere", tmp_path, 1)
    with pytest.raises(SystemExit, match="outside needs no_such_listener, not installed"):
        main(["outside", "--run-dir", str(tmp_path), "--smoke"])


@pytest.mark.slow
def test_the_commands_import_no_listener() -> None:
    names = set(outside_ears.PACKAGES)
    code = f"import sys, streamgen.pocket.training.__main__; print({names!r} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[-2] == "set()"


def melody(pitches: list[int]) -> np.ndarray:
    """Half a second of each, over and over, for eight seconds: three harmonics that die away."""
    time = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    tones = [
        sum(np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * k * time) / k**2 for k in range(1, 4))
        for pitch in pitches
    ]
    phrase = np.concatenate([0.3 * np.exp(-2 * time) * tone for tone in tones])
    return np.tile(phrase, 16 // len(pitches)).astype(np.float32)


@theirs
@needs_listeners
def test_the_pitches_of_a_plain_melody_are_heard() -> None:
    listener = PitchListener()
    assert listener.pitches(melody([72, 76, 79, 83])) == {72, 76, 79, 83}
    assert listener.pitches(melody([69, 69, 45, 45])) == {69}
    assert listener.pitches(np.zeros(8 * SAMPLE_RATE_HZ, np.float32)) == set()


@theirs
@needs_listeners
def test_a_sound_at_full_scale_is_finite_in_patches_of_three_seconds() -> None:
    heard = patches(np.sin(np.arange(10 * SAMPLE_RATE_HZ) * 0.1).astype(np.float32))
    assert heard.shape == (5, 187, 96)
    assert np.isfinite(heard).all()
    assert 10 ** heard.max() > 65_504  # what float16 can hold
    assert np.array_equal(heard[0, 92:], heard[1, : 187 - 92])


@theirs
@needs_listeners
def test_the_tags_are_of_the_last_layer_and_nothing_is_dropped_or_learned() -> None:
    from musicnn import configuration
    from tensorflow.compat.v1.train import NewCheckpointReader

    listener, audio = TagListener(), melody([72, 76, 79, 83])
    features, tags = listener.hear(audio)
    assert features.shape == (4, 200)
    weights = NewCheckpointReader(f"{Path(configuration.__file__).parent}/MSD_musicnn/")
    logits = features @ weights.get_tensor("dense_1/kernel") + weights.get_tensor("dense_1/bias")
    likely = (1 / (1 + np.exp(-logits))).mean(0)
    assert tags == [configuration.MSD_LABELS[number] for number in np.argsort(-likely)[:3]]
    assert np.array_equal(listener.hear(audio)[0], features)  # dropout would draw anew
    alone, _ = listener.hear(audio[: 3 * SAMPLE_RATE_HZ])  # batch norms of the batch would know of the other patches
    assert len(alone) == 1
    assert alone[0] == pytest.approx(features[0], abs=0.05)  # its last frames hear what follows


@pytest.mark.slow
@theirs
@needs_listeners
@pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont on this machine")
def test_the_stage_on_a_few_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "SEEDS", (0,))
    rows = judge_outside(pocket_folder(), tmp_path, clips=4)
    written = json.loads((tmp_path / "outside.json").read_text())
    assert [row["row"] for row in written["rows"]] == [row.name for row in rows]
    assert len(written["clips"]) == 4 * (3 + 1)
    assert "features" not in written["clips"][0]
    distance = next(row for row in rows if row.name == "Fréchet distance to real, 20 patches")
    assert 0 < distance.values["codec"] < distance.values["generated"]
    assert f"| {rows[-1].name} | 3 |" in (tmp_path / "outside.md").read_text()
