"""What listeners hear that others trained: basic-pitch the pitches of a lead, musicnn how near the sound is to songs.

Rules: plays a checkpoint through streamgen itself with its own settings, without a master; writes `outside.json` and
`outside.md`. The listeners' packages, TensorFlow among them, are the extra `judge`, and imported when they are to hear.

Sources: Bittner et al., "A lightweight instrument-agnostic model for polyphonic note transcription and multipitch
estimation", ICASSP 2022. Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
ISMIR 2019. Kilgour et al., "Fréchet audio distance", Interspeech 2019.
"""

import importlib.util
import json
import logging
import os
import tempfile
import wave
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import EncodecModel

from streamgen.model import Model, load_model
from streamgen.pocket.training.captions import captioned_songs
from streamgen.pocket.training.compose import DRUM_CHANNEL, GROOVE, Song, songs_of_every_style
from streamgen.pocket.training.corpus import render_seconds
from streamgen.pocket.training.judge import KINDS, SECONDS, Row, table
from streamgen.pocket.training.listening import as_codec_plays, to_floats
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.restart import load_whole
from streamgen.pocket.training.streams import SEEDS, perform
from streamgen.pocket.training.styles import STYLES
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ, Synthesizer

Features = npt.NDArray[np.float64]  # [patches, 200]
PACKAGES = ("tensorflow", "musicnn", "basic_pitch", "onnxruntime", "librosa", "resampy", "mir_eval", "pretty_midi")
REMEDY = 'pip install -e ".[train,judge]" && pip install --no-deps musicnn==0.1.0 basic-pitch==0.4.0'
LEAD_SECONDS = 8
LOWEST_OF_A_LEAD = 62  # D4, as a MIDI pitch: below it are basses and chords
MAIN_SHARE = 0.1  # of all that sounds from there up: less is a ghost of a harmonic
TOP_TAGS = 3
OTHER = "other"
_FIRST_OTHER_SONG = 30_000  # a number that nobody else comes to

# musicnn's own, from its extractor.py: what it hears, in patches of three seconds that overlap by half.
MUSICNN_RATE_HZ, FFT, HOP, BANDS = 16_000, 512, 256, 96
PATCH_FRAMES, PATCH_STEP = 187, 92


class ListenersMissingError(ImportError):
    """A package of the listeners is not installed; the message says how to install it."""


def require_listeners() -> None:
    """Refuse before anything is played.

    Raises:
        ListenersMissingError: a package is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ListenersMissingError(f"outside needs {', '.join(missing)}, not installed here: {REMEDY}")


# -- pitches -----------------------------------------------------------------------------------------------------------


def main_pitches(notes: Iterable[tuple[float, float, int, float]]) -> set[int]:
    """The MIDI pitches from D4 up that have a tenth or more of what sounds there, by duration times strength.

    Args:
        notes: start and end in any unit, MIDI pitch, strength.
    """
    weights: defaultdict[int, float] = defaultdict(float)
    for start, end, pitch, strength in notes:
        if pitch >= LOWEST_OF_A_LEAD:
            weights[pitch] += (end - start) * strength
    return {pitch for pitch, weight in weights.items() if weight >= MAIN_SHARE * sum(weights.values())}


def pitches_written(song: Song) -> set[int]:
    """The main pitches of a song's groove as it is composed."""
    notes = [note for note in song.loops[GROOVE].notes if note.channel != DRUM_CHANNEL]
    return main_pitches((note.start, note.start + note.length, note.pitch, note.velocity) for note in notes)


class PitchListener:
    """basic-pitch, by its ONNX file, with its own thresholds."""

    def __init__(self) -> None:
        """Load it; what it says of runtimes that it can do without is left out."""
        _quieten()
        logging.disable(logging.WARNING)
        try:
            import basic_pitch

            basic_pitch.TF_PRESENT = False  # else TensorFlow's loaders are tried on the file first
            from basic_pitch import inference
        finally:
            logging.disable(logging.NOTSET)
        self._inference: Any = inference
        self._model = inference.Model(basic_pitch.build_icassp_2022_model_path(basic_pitch.FilenameSuffix.onnx))

    def pitches(self, audio: Audio) -> set[int]:
        """The main pitches of the first eight seconds of mono sound."""
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            path = Path(folder) / "lead.wav"  # it takes files alone
            _write_wav(path, audio[: LEAD_SECONDS * SAMPLE_RATE_HZ])
            _, _, notes = self._inference.predict(path, self._model)
        return main_pitches((start, end, int(pitch), strength) for start, end, pitch, strength, _ in notes)


def _write_wav(path: Path, audio: Audio) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())


# -- nearness and tags -------------------------------------------------------------------------------------------------


def frechet_distance(some: Features, others: Features) -> float:
    """Fréchet distance, squared as is usual, of the Gaussians that two sets of rows [n, units] are taken for.

        |mean A - mean B|² + tr A + tr B - 2 tr √(AB)

    The root's trace is that of √(√A B √A), which is symmetric: its eigenvalues will do.
    """
    first, second = np.cov(some, rowvar=False), np.cov(others, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    between = some.mean(0) - others.mean(0)
    return float(between @ between + np.trace(first) + np.trace(second) - 2 * shared)


def patches(audio: Audio) -> npt.NDArray[np.float32]:
    """What musicnn hears of mono sound: log10 of mel power, [patches, 187 frames, 96 bands].

    Its own code multiplies by 10,000 in float16: power above 6.55 becomes infinite, as it does in 45 of the judge's 48
    songs, and the answer is then the same whatever is heard. So here it is float32.
    """
    import librosa

    slow = librosa.resample(audio, orig_sr=SAMPLE_RATE_HZ, target_sr=MUSICNN_RATE_HZ)
    power = librosa.feature.melspectrogram(y=slow, sr=MUSICNN_RATE_HZ, n_fft=FFT, hop_length=HOP, n_mels=BANDS).T
    frames = np.log10(10_000 * power + 1).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(frames, PATCH_FRAMES, axis=0)[::PATCH_STEP].transpose(0, 2, 1)


class TagListener:
    """musicnn, trained on the Million Song Dataset, by the graph and weights that its package carries.

    TensorFlow of today cannot import that graph whole, for its gradients have older shapes, and Keras 3 lacks the
    layers of musicnn's own code. So what leads to the two answers is cut out, with the weights put in as constants.
    `is_training` is constant too, False: batch norms take their kept means, and nothing is dropped.
    """

    SOUND, TRAINING = "model/Placeholder:0", "model/Placeholder_2:0"
    FEATURES, TAGS = "model/batch_normalization_10/batchnorm/add_1", "model/Sigmoid"

    def __init__(self) -> None:
        """Load the network."""
        _quieten()
        import tensorflow
        from musicnn import configuration

        self._labels: list[str] = configuration.MSD_LABELS
        folder = Path(configuration.__file__).parent / "MSD_musicnn"
        old: Any = tensorflow.compat.v1
        old.logging.set_verbosity(old.logging.ERROR)  # all of it is called deprecated
        whole = old.MetaGraphDef.FromString((folder / ".meta").read_bytes()).graph_def
        needed = old.graph_util.extract_sub_graph(whole, [self.FEATURES, self.TAGS])
        weights = old.train.NewCheckpointReader(f"{folder}/")
        variables = [node.name for node in needed.node if node.op == "VariableV2"]
        with tensorflow.Graph().as_default() as graph:
            known = {f"{name}/read:0": tensorflow.constant(weights.get_tensor(name)) for name in variables}
            self._sound = old.placeholder(tensorflow.float32, [None, PATCH_FRAMES, BANDS])
            known |= {self.SOUND: self._sound, self.TRAINING: tensorflow.constant(False)}
            answers = [f"{self.FEATURES}:0", f"{self.TAGS}:0"]
            self._answers = tensorflow.import_graph_def(needed, input_map=known, return_elements=answers)
        one_thread = old.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        self._session = old.Session(graph=graph, config=one_thread)

    def hear(self, audio: Audio) -> tuple[Features, list[str]]:
        """The 200 units before the last layer [patches, 200], and the tags that are likeliest in the mean."""
        features, tags = self._session.run(self._answers, {self._sound: patches(audio)})
        best = np.argsort(-tags.mean(0))[:TOP_TAGS]
        return features.astype(np.float64), [self._labels[number] for number in best]


def _quieten() -> None:
    """Keep TensorFlow from telling of its processor; it must be told before it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


# -- the stage ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hearing:
    """What was heard in one clip, real, codec's, generated or of another song; pitches only where there is a lead."""

    kind: str
    seed: int | None
    text: str
    style: str
    pitches: list[int] | None
    written: int
    tags: list[str]
    features: Features


def pitch_rows(hearings: Sequence[Hearing]) -> list[Row]:
    """How many main pitches leads have: the mean over all of them, and over those of each style."""
    leads, rows = [one for one in hearings if one.pitches is not None], list[Row]()
    for style in dict.fromkeys([None, *(one.style for one in leads)]):
        chosen = [one for one in leads if style in (None, one.style)]
        counts = {kind: [len(one.pitches or ()) for one in chosen if one.kind == kind] for kind in KINDS}
        if chosen:
            written = np.mean([one.written for one in chosen if one.kind == "real"])
            name = f"main pitches of a lead in {LEAD_SECONDS} s, {len(counts['real'])} {style or 'songs'}"
            means = {kind: float(np.mean(found)) for kind, found in counts.items()}
            rows.append(Row(name, f"{written:.3g} (in the score)", means))
    return rows


def nearness_rows(hearings: Sequence[Hearing]) -> list[Row]:
    """Fréchet distances; of what is generated the mean over the seeds, and each by itself.

    So few patches leave real songs of the same styles apart, too: by how much is the chance.
    """
    by_round: defaultdict[tuple[str, int | None], list[Features]] = defaultdict(list)
    for one in hearings:
        by_round[one.kind, one.seed].append(one.features)
    heard = {key: np.concatenate(found) for key, found in by_round.items()}
    real, codec, other = (heard.pop((kind, None)) for kind in ("real", "codec", OTHER))
    own, chance = frechet_distance(real, codec), f"{frechet_distance(real, other):.3g} (as many other real songs)"
    away = {seed: frechet_distance(real, features) for (_, seed), features in heard.items()}
    mean = float(np.mean(list(away.values())))
    beside = float(np.mean([frechet_distance(codec, features) for features in heard.values()]))
    return [
        Row(f"Fréchet distance to real, {len(real)} patches", chance, {"codec": own, "generated": mean}),
        *(Row(f"the same, seed {seed} alone", "", {"generated": distance}) for seed, distance in away.items()),
        Row("Fréchet distance to real / the codec's own", "", {"codec": 1.0, "generated": mean / own}),
        Row("Fréchet distance to the codec", "", {"real": own, "generated": beside}),
    ]


def tag_row(hearings: Sequence[Hearing]) -> Row:
    """How many of its likeliest tags a clip has in common with the real song; by chance, two real songs."""
    songs = {one.text: set(one.tags) for one in hearings if one.kind == "real"}
    shared = {kind: [len(songs[one.text] & set(one.tags)) for one in hearings if one.kind == kind] for kind in KINDS}
    values = {kind: float(np.mean(found)) for kind, found in shared.items()}
    chance = np.mean([len(one & other) for one, other in permutations(songs.values(), 2)])
    return Row(f"top {TOP_TAGS} tags, shared with the real song", f"{chance:.2g} (another song)", values)


def listen(model: Model, codec: EncodecModel, prompts: Sequence[tuple[Song, str]]) -> Iterator[Hearing]:
    """Render and encode songs, render others, play the captions under three seeds, and listen to all of it."""
    melody, sound = PitchListener(), TagListener()

    def hear(prompt: tuple[Song, str], audio: Audio, kind: str, seed: int | None = None) -> Hearing:
        song, text = prompt
        pitches = sorted(melody.pitches(audio)) if STYLES[song.style].leads and kind in KINDS else None
        features, tags = sound.hear(audio)
        return Hearing(kind, seed, text, song.style, pitches, len(pitches_written(song)), tags, features)

    with Synthesizer() as synth:
        for prompt in prompts:
            pcm = render_seconds(synth, prompt[0], SECONDS)
            yield hear(prompt, to_floats(pcm), "real")
            yield hear(prompt, as_codec_plays(codec, pcm), "codec")
        for song in songs_of_every_style(len(prompts), _FIRST_OTHER_SONG):
            yield hear((song, ""), to_floats(render_seconds(synth, song, SECONDS)), OTHER)
    print(f"outside: heard {len(prompts)} songs, the codec's, and as many others", flush=True)
    for seed in SEEDS:
        for prompt, audio in zip(prompts, perform(model, list(prompts), seed, SECONDS), strict=True):
            yield hear(prompt, audio, "generated", seed)
        print(f"outside: heard seed {seed}", flush=True)


def judge_outside(folder: Path, target: Path, clips: int, precision: str = "auto") -> list[Row]:
    """Listen on one thread, in the precision users get; write what was heard.

    Args:
        folder: the checkpoint.
        target: where the figures go.
        clips: how many captions.
        precision: as in `load_model`.

    Raises:
        ListenersMissingError: a package of the listeners is not installed.
    """
    require_listeners()
    torch.set_num_threads(1)
    model = load_model(str(folder), device="cpu", precision=precision)
    print(f"outside: plays in {model.load_note}", flush=True)
    hearings = list(listen(model, load_whole(folder).audio_encoder, captioned_songs(clips)))
    rows = [*pitch_rows(hearings), *nearness_rows(hearings), tag_row(hearings)]
    target.mkdir(parents=True, exist_ok=True)
    clips_heard = [{k: v for k, v in vars(one).items() if k != "features"} for one in hearings]
    data = {"rows": [{"row": row.name, "chance": row.chance, **row.values} for row in rows], "clips": clips_heard}
    (target / "outside.json").write_text(json.dumps(data, indent=1) + "\n")
    (target / "outside.md").write_text(table(rows, clips, model.precision))
    print((target / "outside.md").read_text(), flush=True)
    return rows
