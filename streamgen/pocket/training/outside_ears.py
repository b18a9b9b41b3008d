"""Listeners that others trained: basic-pitch hears pitches, musicnn tags and what sounds alike.

Rules: mono sound in, what is heard out; knows no stage and no checkpoint. The packages, TensorFlow among them, are the
extra `judge`, and imported when they are to hear.

Sources: Bittner et al., "A lightweight instrument-agnostic model for polyphonic note transcription and multipitch
estimation", ICASSP 2022. Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
ISMIR 2019.
"""

import importlib.util
import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgen.audio import wav_bytes
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

Features = npt.NDArray[np.float64]  # [patches, 200]
PACKAGES = ("tensorflow", "musicnn", "basic_pitch", "onnxruntime", "librosa", "resampy", "mir_eval", "pretty_midi")
REMEDY = 'pip install -e ".[train,judge]" && pip install --no-deps musicnn==0.1.0 basic-pitch==0.4.0'
LEAD_SECONDS = 8
LOWEST_OF_A_LEAD = 62  # D4, as a MIDI pitch: below it are basses and chords
MAIN_SHARE = 0.1  # of all that sounds from there up: less is a ghost of a harmonic
TOP_TAGS = 3

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
            path.write_bytes(wav_bytes(audio[None, : LEAD_SECONDS * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ))
            _, _, notes = self._inference.predict(path, self._model)
        return main_pitches((start, end, int(pitch), strength) for start, end, pitch, strength, _ in notes)


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
