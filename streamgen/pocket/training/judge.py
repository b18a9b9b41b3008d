"""The table of the model card: real, codec and generated sound measured alike, chance stated.

Rules: any MusicGen with a 32 kHz mono codec can be judged. What is generated is played by streamgen in the precision
users get, likelihoods are transformers' in float32; writes `judge.json`, `judge.md` and spectrogram pictures. The songs
are held out: training saw no song of their style, tempo, key, mood and instruments together.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, EncodecModel, MusicgenProcessor

from streamgen.model import load_model
from streamgen.pocket.training import defects, measures
from streamgen.pocket.training.captions import captioned_songs
from streamgen.pocket.training.codec import codes_to_sound, held_out_error, sound_to_codes
from streamgen.pocket.training.compose import (
    FRAMES_PER_STEP,
    KEY_NAMES,
    STEPS_PER_BAR,
    Song,
)
from streamgen.pocket.training.corpus import render_seconds
from streamgen.pocket.training.language import cross_entropy
from streamgen.pocket.training.listening import EXAM_SONGS, Confusion, confusion, examine, style_listener, to_floats
from streamgen.pocket.training.listening import table as confusions
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.pictures import spectrogram, stack, write_png
from streamgen.pocket.training.playing import play, takeover_share
from streamgen.pocket.training.restart import load_whole
from streamgen.pocket.training.styles import STYLES
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ, Synthesizer

Measure = Callable[[Audio, Song], float]
KINDS = ("real", "codec", "generated")
SECONDS = 10
FRAMES = SECONDS * 50


@dataclass
class Row:
    """One line of the table; empty where a measure has no meaning."""

    name: str
    chance: str = ""
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Exhibit:
    """One held-out song, its caption, and the same ten seconds real, through the codec, and generated."""

    song: Song
    text: str
    audio: dict[str, Audio]
    codes: dict[str, Tensor]


class Judge:
    """A loaded checkpoint and everything measured about it."""

    def __init__(self, folder: Path, clips: int, listener_songs: int, precision: str = "auto", seed: int = 0) -> None:
        """Load the checkpoint, render the held-out songs and generate from their captions.

        Args:
            folder: of the checkpoint.
            clips: how many held-out songs.
            listener_songs: how many others the listener of styles is fitted on.
            precision: as in `load_model`.
            seed: of what is generated.
        """
        torch.manual_seed(seed)
        self.player = load_model(str(folder), device="cpu", precision=precision)
        print(f"judge: plays in {self.player.load_note}", flush=True)
        self.model = load_whole(folder)
        self.processor: MusicgenProcessor = AutoProcessor.from_pretrained(folder)
        self.codec: EncodecModel = self.model.audio_encoder
        self.seed, self.rows, self.confusions = seed, list[Row](), dict[str, Confusion]()
        self.listener_songs = listener_songs
        self.exhibits = self._exhibits(clips)

    def _exhibits(self, clips: int) -> list[Exhibit]:
        songs, texts = zip(*captioned_songs(clips, self.seed), strict=True)
        with Synthesizer() as synth:
            real = [render_seconds(synth, song, SECONDS) for song in songs]
        codes = [sound_to_codes(self.codec, pcm) for pcm in real]
        made = self.generate(list(texts))
        out = []
        for song, text, pcm, c, g in zip(songs, texts, real, codes, made, strict=True):
            audio = {"real": to_floats(pcm), "codec": self.decode(c), "generated": self.decode(g)}
            out.append(Exhibit(song, text, audio, {"real": c, "generated": g}))
        return out

    def generate(self, texts: list[str]) -> list[Tensor]:
        """Codes [4, 500] for each text, with the checkpoint's own sampling settings."""
        made: list[Tensor] = []
        for number, text in enumerate(texts):
            made.append(play(self.player, text, FRAMES, self.seed + number))
            if (number + 1) % 12 == 0:
                print(f"judge: generated {number + 1}/{len(texts)}", flush=True)
        return made

    def decode(self, codes: Tensor) -> Audio:
        """Sound of codes [4, frames]."""
        return np.asarray(codes_to_sound(self.codec, codes).numpy(), dtype=np.float32)

    def each(self, measure: Measure, songs: Callable[[Song], bool] = lambda _: True) -> dict[str, float]:
        """Mean of a measure over the exhibits of some songs, for every kind of sound."""
        chosen = [exhibit for exhibit in self.exhibits if songs(exhibit.song)]
        values = {kind: [measure(e.audio[kind], e.song) for e in chosen] for kind in KINDS}
        return {kind: float(np.mean(found)) if found else float("nan") for kind, found in values.items()}

    def run(self) -> list[Row]:
        """Measure every row."""
        self._codec_rows()
        self._sound_rows()
        self._defect_rows()
        self._style_rows()
        self._likelihood_rows()
        return self.rows

    def _add(self, name: str, values: dict[str, float], chance: str = "") -> None:
        self.rows.append(Row(name, chance, values))
        print(f"judge: {name}: {values}", flush=True)

    def _codec_rows(self) -> None:
        pcm = [np.round(e.audio["real"] * 32767).astype(np.int16) for e in self.exhibits[:24]]
        self._add("codec: held-out log10-mel L1", {"codec": held_out_error(self.codec, pcm)})
        for book in range(4):
            values = {kind: self._repeats(kind, book) for kind in ("real", "generated")}
            shifted = self._repeats("real", book, 7)
            self._add(
                f"codebook {book}: tokens equal those one bar earlier", values, f"{shifted:.2f} (a bar and 7 frames)"
            )

    def _repeats(self, kind: str, book: int, shift: int = 0) -> float:
        return float(np.mean([_repeats(e.codes[kind][book], e.song, shift) for e in self.exhibits]))

    def _sound_rows(self) -> None:
        self._add("onset autocorrelation at the bar lag, drums", self.each(_beat, _drums), self._elsewhere())
        self._add("tempo within 5 % (half, once, twice), drums", self.each(_tempo_right, _drums), self._tempo_chance())
        loud, soft = self.each(_percussive, _drums), self.each(_percussive, lambda song: not song.has_drums)
        self._add("percussive energy, drums / no drums", {kind: loud[kind] / soft[kind] for kind in loud}, "1")
        flat = self.each(lambda audio, _: measures.flatness(audio))
        self._add("flatness / the codec's own", {kind: value / flat["codec"] for kind, value in flat.items()})
        self._add("named key beats its 11 transpositions", self.each(_key_right), "0.08")
        self._add("half-seconds under -50 dBFS", self.each(lambda audio, _: measures.silent_share(audio)))
        self._add("loudness, RMS", self.each(lambda audio, _: float(np.sqrt(np.mean(audio**2)))))

    def _defect_rows(self) -> None:
        self._add("lines at k·400 Hz, of 24", self.each(lambda audio, _: defects.comb_lines(audio)))
        self._add("digital silence through the codec (dBFS)", {"codec": silence_dbfs(self.codec)})
        found = [defects.harmonic_detail(e.audio["codec"], e.audio["real"]) for e in self.exhibits]
        for (low, high), value in zip(defects.BANDS_HZ, np.mean(found, axis=0), strict=True):
            self._add(f"harmonic detail, {low} to {high} Hz: correlation with the real one", {"codec": float(value)})
        elsewhere = [
            defects.share_on_grid(e.audio["real"], 1.37 * _step(e.song)) for e in self.exhibits if _drums(e.song)
        ]
        self._add(
            "onsets within 12 ms of the 16th grid, drums",
            self.each(lambda audio, song: defects.share_on_grid(audio, _step(song)), _drums),
            f"{np.mean(elsewhere):.2f} (real, a grid 1.37 times as wide)",
        )

    def _elsewhere(self) -> str:
        """The real clips' autocorrelation at another tempo's bar."""
        values = [
            measures.autocorrelation(measures.onset_envelope(e.audio["real"]), 1.37 * _bar_seconds(e.song))
            for e in self.exhibits
            if e.song.has_drums
        ]
        return f"{np.mean(values):.2f} (real, at 1.37 bars)"

    def _tempo_chance(self) -> str:
        drummed = [e for e in self.exhibits if e.song.has_drums]
        found = [measures.tempo(e.audio["generated"]) for e in drummed]
        hits = [measures.tempo_fits(f, _exact(e.song.bpm)) for f in found for e in drummed]
        return f"{np.mean(hits):.2f} (captions shuffled)"

    def _style_rows(self) -> None:
        classify, chance = style_listener(self.codec, self.listener_songs), f"{1 / len(STYLES):.2f}"
        examined = examine(classify, self.codec, min(EXAM_SONGS, self.listener_songs))
        count = examined["real"].counts.total()
        self._add(f"style of {count} other held-out songs", {kind: f.right for kind, f in examined.items()}, chance)
        heard = {kind: confusion(classify, [(e.song, e.audio[kind]) for e in self.exhibits]) for kind in KINDS}
        self._add("style of these clips' first 5 s", {kind: found.right for kind, found in heard.items()}, chance)
        self.confusions = {**{f"{kind}, {count} songs": f for kind, f in examined.items()}, **heard}
        turned = takeover_share(self.player, [(e.song, e.text) for e in self.exhibits[:24]], classify)
        self._add("style of a new prompt, 3 to 8 s after a change", {"generated": turned}, chance)

    @torch.no_grad()
    def _likelihood_rows(self) -> None:
        """Cross-entropies of real songs' codes under right and wrong captions."""
        first, later, captions_right, tempi_right, keys_right = [], [], [], [], []
        for number, exhibit in enumerate(self.exhibits):
            bar, codes = exhibit.song.frames_per_bar, exhibit.codes["real"][:, :300]
            own = self._losses([exhibit.text], codes)[0]
            first.append(own[:bar].mean().item())
            later.append(own[bar:].mean().item())
            others = [e.text for e in (self.exhibits * 12)[number + 1 : number + 12]]
            found = self._losses([exhibit.text, *others], codes[:, :bar]).mean(1).argmin()
            captions_right.append(int(found) == 0)
            named = [exhibit.text.replace(str(exhibit.song.bpm), str(bpm)) for bpm in FRAMES_PER_STEP]
            found = self._losses(named, codes[:, :bar]).mean(1).argmin()
            tempi_right.append(list(FRAMES_PER_STEP)[int(found)] == exhibit.song.bpm)
            key, keys = exhibit.song.key.lower()[0], [name.lower() for name in KEY_NAMES.values()]
            keyed = [exhibit.text.replace(f"in {key} m", f"in {other} m") for other in keys]
            found = self._losses(keyed, codes[:, :bar]).mean(1).argmin()
            keys_right.append(list(KEY_NAMES)[int(found)] == exhibit.song.tonic)
        self._add("codebook-0 cross-entropy, first bar (nats)", {"real": float(np.mean(first))}, "6.93")
        self._add("codebook-0 cross-entropy, later bars (nats)", {"real": float(np.mean(later))})
        self._add("later bars below the first (nats)", {"real": float(np.mean(first) - np.mean(later))}, "0")
        self._add("caption retrieval, 1 of 12, by the first bar", {"real": float(np.mean(captions_right))}, "0.08")
        self._add("tempo retrieval, 1 of 3, by the first bar", {"real": float(np.mean(tempi_right))}, "0.33")
        self._add("key retrieval, 1 of 6, by the first bar", {"real": float(np.mean(keys_right))}, "0.17")

    def _losses(self, texts: list[str], codes: Tensor) -> Tensor:
        """Codebook 0's cross-entropy [texts, frames] of one clip's codes [4, frames] under each text."""
        inputs = self.processor(text=texts, padding=True, return_tensors="pt")
        read = inputs["input_ids"], inputs["attention_mask"]
        return cross_entropy(self.model, *read, codes.expand(len(texts), -1, -1))[:, 0]

    def write(self, folder: Path) -> None:
        """Write `judge.json`, `judge.md`, `styles.md` and one picture for each style."""
        figures = table(self.rows, len(self.exhibits), self.player.precision)
        write_findings(folder, "judge", as_data(self.rows), figures)
        (folder / "styles.md").write_text(confusions(self.confusions))
        by_style = {exhibit.song.style: exhibit for exhibit in reversed(self.exhibits)}
        for style, exhibit in by_style.items():
            views = [spectrogram(exhibit.audio[kind][: 8 * SAMPLE_RATE_HZ]) for kind in KINDS]
            write_png(folder / f"{style}.png", stack(views))


def silence_dbfs(codec: EncodecModel) -> float:
    """Loudness of what the codec makes of five seconds of nothing, after its first second."""
    codes = sound_to_codes(codec, np.zeros(6 * SAMPLE_RATE_HZ, np.int16))
    made = codes_to_sound(codec, codes).numpy()[SAMPLE_RATE_HZ:].astype(np.float64)
    return float(10 * np.log10(np.mean(made**2) + 1e-12))


def write_findings(folder: Path, stage: str, data: Any, table: str) -> None:
    """Write `stage.json` and `stage.md`, and show the table.

    Args:
        folder: made if missing.
        stage: by which the files are named.
        data: dictionaries, lists, numbers and texts.
        table: markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stage}.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / f"{stage}.md").write_text(table)
    print(table, flush=True)


def as_data(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as they are written for programs."""
    return [{"row": row.name, "chance": row.chance, **row.values} for row in rows]


def table(rows: list[Row], clips: int, precision: str) -> str:
    """The rows in markdown."""
    lines = [
        f"{clips} held-out captions, {SECONDS} s each, played in {precision}.\n",
        "| row | real | codec | generated | chance |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row.values[kind]:.3g}" if kind in row.values else "" for kind in KINDS]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {row.chance} |")
    return "\n".join(lines) + "\n"


def _drums(song: Song) -> bool:
    return song.has_drums


def _beat(audio: Audio, song: Song) -> float:
    return measures.autocorrelation(measures.onset_envelope(audio), _bar_seconds(song))


def _tempo_right(audio: Audio, song: Song) -> float:
    return measures.tempo_fits(measures.tempo(audio), _exact(song.bpm))


def _percussive(audio: Audio, _: Song) -> float:
    return measures.percussive_share(audio)


def _key_right(audio: Audio, song: Song) -> float:
    return measures.key_rank(audio, song.tonic, STYLES[song.style].minor) == 0


def _bar_seconds(song: Song) -> float:
    return song.frames_per_bar / 50


def _step(song: Song) -> float:
    """Seconds of a sixteenth."""
    return _bar_seconds(song) / STEPS_PER_BAR


def _exact(bpm: int) -> float:
    """The tempo played under a whole-number name: 94 is 93.75."""
    return 60 * 50 / (FRAMES_PER_STEP[bpm] * STEPS_PER_BAR / 4)


def _repeats(codes: Tensor, song: Song, shift: int = 0) -> float:
    """Share of codes [frames] equal to those one bar (and `shift` frames) earlier, from the third bar on."""
    lag = song.frames_per_bar + shift
    later = codes[2 * song.frames_per_bar :]
    return float((later == codes[2 * song.frames_per_bar - lag : len(codes) - lag]).float().mean())


def judge(folder: Path, target: Path, clips: int, listener_songs: int, precision: str = "auto") -> None:
    """Judge one checkpoint folder, on one thread, and write tables and pictures into `target`."""
    torch.set_num_threads(1)  # a step of a small model on two waits for the second, where others use that core
    the_judge = Judge(folder, clips, listener_songs, precision)
    the_judge.run()
    the_judge.write(target)
