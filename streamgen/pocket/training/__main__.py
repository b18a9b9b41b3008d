"""The commands: `python -m streamgen.pocket.training STAGE [--run-dir DIR] [--smoke]`.

Rules: only this file reads arguments. Every stage goes on where it was interrupted; `--smoke` runs the same code on a
handful of loops for a few steps, so that a change which breaks a stage is seen in a minute.
"""

import argparse
import signal
import sys
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from transformers import EncodecModel

from streamgen.config import PRECISIONS
from streamgen.pocket import pocket_folder
from streamgen.pocket.training.captions import train_tokenizer
from streamgen.pocket.training.code_names import named_after
from streamgen.pocket.training.codec import CodecPlan, CodecTrainer, new_codec, train_codec
from streamgen.pocket.training.corpus import all_clips, render_corpus
from streamgen.pocket.training.defaults import DefaultsPlan, judge_defaults
from streamgen.pocket.training.endless import judge_endless
from streamgen.pocket.training.export import export, graft
from streamgen.pocket.training.fitting import (
    LanguagePlan,
    LanguageTrainer,
    load_songs,
    tokenise_corpus,
    train_language_model,
)
from streamgen.pocket.training.judge import judge
from streamgen.pocket.training.levels import judge_levels
from streamgen.pocket.training.listening import LISTENER_SONGS
from streamgen.pocket.training.outside import judge_outside
from streamgen.pocket.training.outside_ears import ListenersMissingError
from streamgen.pocket.training.refining import DECODER_FILE, DecoderTrainer, RefinePlan, refine_decoder
from streamgen.pocket.training.restart import averaged, load_whole, restart_codec, restart_language
from streamgen.pocket.training.sharpening import SHARP_FILE, CodecSharpener, SharpenPlan, sharpen_codec
from streamgen.pocket.training.strangers import judge_strangers
from streamgen.pocket.training.streams import judge_streams

# What "all" runs; "graft" puts the run's codec into the shipped checkpoint and leaves its language model as it is;
# "sharpen" trains a checkpoint's codec on as a whole, for a new language model; "outside" needs the extra `judge`.
MAKING = ("render", "codec", "tokenise", "lm", "refine", "export")
JUDGING = ("judge", "streams", "endless", "strangers", "defaults", "levels")
STAGES = (*MAKING, *JUDGING)


FROZEN_FILE = "codec_frozen.pt"
NAMING_SONGS = 40  # heard to number a sharpened codec's codes


@dataclass(frozen=True)
class Run:
    """What a whole run takes: sizes of every stage and where its files go.

    Attributes:
        start: the checkpoint that it went on from.
        styles: of how many the loudness is measured; None is all.
        share: of its own language model in what is exported; the rest is the start's.
    """

    folder: Path
    songs: int
    held_out: int
    codec: CodecPlan
    language: LanguagePlan
    refine: RefinePlan
    sharpen: SharpenPlan
    clips: int
    minutes: float
    prompts: int
    listener_songs: int
    defaults: DefaultsPlan
    styles: int | None = None
    start: Path | None = None
    share: float = 1.0

    @property
    def corpus(self) -> Path:
        """Rendered shards."""
        return self.folder / "audio"


def full_run(folder: Path, lm_seconds: float, codec_steps: int, refine_seconds: float, sharpen_seconds: float) -> Run:
    """The run that made the shipped checkpoint."""
    return Run(
        folder,
        7200,
        16,
        CodecPlan(steps=codec_steps),
        LanguagePlan(seconds=lm_seconds),
        RefinePlan(refine_seconds),
        SharpenPlan(sharpen_seconds),
        48,
        60.0,
        50,
        LISTENER_SONGS,
        DefaultsPlan(),
    )


def smoke_run(folder: Path) -> Run:
    """Every stage on real code paths, in a minute or two."""
    codec = CodecPlan(
        steps=14, batch=2, mel_from=2, mel_full=6, quantize_from=8, encoder_frozen=2, save_every_s=1e9, held_out=2
    )
    language = LanguagePlan(seconds=1e9, save_every_s=5.0, max_steps=4)
    refine, sharpen = RefinePlan(seconds=1.0, batch=2, held_out=2), SharpenPlan(seconds=1.0, batch=2, held_out=2)
    few = DefaultsPlan(1, 1, arranged=1, arranged_seconds=6.0, calm=1, calm_seconds=11.0, stray_seeds=1, negated=1)
    return Run(folder, 12, 3, codec, language, refine, sharpen, 2, 0.2, 2, 12, few, styles=1)


def main(arguments: list[str] | None = None) -> None:
    """Run one stage, or all of them in order."""
    parser = argparse.ArgumentParser(prog="python -m streamgen.pocket.training", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, "outside", "graft", "sharpen", "all"))
    parser.add_argument("--run-dir", type=Path, default=Path("pocket-run"))
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything")
    parser.add_argument("--lm-seconds", type=float, default=3000.0, help="training time of the language model")
    parser.add_argument("--codec-steps", type=int, default=3000)
    parser.add_argument("--refine-seconds", type=float, default=7200.0, help="training time of the decoder alone")
    parser.add_argument("--sharpen-seconds", type=float, default=7200.0, help="training time of the codec as a whole")
    parser.add_argument("--start", type=Path, help="begin codec, sharpen and lm with this checkpoint's weights")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of this run's language model in an export, the rest being --start's",
    )
    parser.add_argument("--out", type=Path, help="where export writes and judge reads (default: RUN_DIR/weights)")
    parser.add_argument("--model", type=Path, help="judge this checkpoint folder instead")
    parser.add_argument("--clips", type=int, help="how many held-out captions to judge by")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="the stages that judge play in it")
    options = parser.parse_args(arguments)
    seconds = options.refine_seconds, options.sharpen_seconds
    full = full_run(options.run_dir, options.lm_seconds, options.codec_steps, *seconds)
    run = smoke_run(options.run_dir) if options.smoke else full
    weights = options.out or options.model or options.run_dir / "weights"
    options.run_dir.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that a stage can save before it ends
    if options.start is not None:
        begin(run, options.start, options.stage)
    if options.share != 1 and (options.start is None or not 0 <= options.share < 1):
        sys.exit(f"--share is {options.share:g}, must be within 0 … 1, and --start the folder that the run began with")
    run = replace(run, start=options.start, share=options.share)
    for stage in STAGES if options.stage == "all" else (options.stage,):
        do(stage, run, weights, options.clips or run.clips, options.precision)


def begin(run: Run, checkpoint: Path, stage: str) -> None:
    """Let the training of a stage, or all, go on from a checkpoint; one that is under way is left as it is."""
    if stage in ("codec", "all") and not (run.folder / "codec.pt").exists():
        restart_codec(run.folder, checkpoint, run.codec)
    if stage in ("lm", "all") and not (run.folder / "language.pt").exists():
        restart_language(run.folder, checkpoint, train_tokenizer(run.folder / "tokenizer"), run.language)


def do(stage: str, run: Run, weights: Path, clips: int, precision: str) -> None:
    """One stage of a run."""
    if stage == "render":
        render_corpus(run.corpus, run.songs)
    elif stage == "codec":
        train_codec(run.folder, run.corpus, run.codec)
    elif stage == "tokenise":
        tokenise_corpus(frozen_codec(run), run.corpus, run.folder / "tokens", run.held_out)
    elif stage == "lm":
        train_language_model(run.folder, run.language)
    elif stage == "refine":
        refine_decoder(run.folder, frozen_codec(run), run.corpus, run.folder / "tokens", run.refine)
    elif stage == "export":
        trainer, songs = trained_language(run), load_songs(run.folder / "tokens")
        trainer.finish(songs)
        export(trainer, refined_codec(run), weights, songs)
    elif stage == "sharpen":
        sharpen_codec(run.folder, codec_to_sharpen(run), run.corpus, run.sharpen)
    elif stage == "graft":
        graft(pocket_folder(), refined_codec(run), weights)
    else:
        listen(stage, run, weights if weights.exists() else pocket_folder(), clips, precision)


def listen(stage: str, run: Run, folder: Path, clips: int, precision: str) -> None:
    """One of the stages that judge a checkpoint."""
    target = run.folder / "judge"
    if stage == "judge":
        judge(folder, target, clips, run.listener_songs, precision)
    elif stage == "streams":
        judge_streams(folder, target, clips, run.listener_songs, precision)
    elif stage == "endless":
        judge_endless(folder, target, run.minutes, precision)
    elif stage == "defaults":
        judge_defaults(folder, target, run.defaults, precision)
    elif stage == "levels":
        judge_levels(folder, target, run.styles, precision)
    elif stage == "outside":
        try:
            judge_outside(folder, target, clips, precision)
        except ListenersMissingError as error:
            sys.exit(str(error))
    else:
        minutes = run.minutes / 20  # three of the full run's sixty
        judge_strangers(folder, target, minutes, run.listener_songs, run.prompts, precision)


def trained_language(run: Run) -> LanguageTrainer:
    """The run's language model, or a mean of it and of that which it went on from."""
    tokenizer = train_tokenizer(run.folder / "tokenizer")
    if run.start is None or run.share == 1:
        return LanguageTrainer(run.folder, tokenizer, run.language)
    return averaged(run.folder, run.start, tokenizer, run.language, run.share)


def frozen_codec(run: Run) -> EncodecModel:
    """The trained codec, frozen in `codec_frozen.pt` when it is first asked for: tokens of two codecs don't mix."""
    path = run.folder / FROZEN_FILE
    if not path.exists():
        sharp = (run.folder / SHARP_FILE).exists()
        model = sharpened_codec(run) if sharp else CodecTrainer(run.folder, run.codec).kept_model()
        torch.save(model.state_dict(), path)
    state = torch.load(path, weights_only=True)
    model = new_codec(filters=len(state["encoder.layers.0.conv.bias"]))
    model.load_state_dict(state)
    model.eval()
    return model


def codec_to_sharpen(run: Run) -> EncodecModel:
    """The codec of the checkpoint that the run goes on from."""
    if run.start is None:
        sys.exit("sharpen needs --start: the folder of the checkpoint whose codec is trained on")
    if (run.folder / FROZEN_FILE).exists():
        sys.exit(f"{run.folder} has tokens of a codec already, and tokens of two don't mix: name another --run-dir")
    codec: EncodecModel = load_whole(run.start).audio_encoder
    return codec


def sharpened_codec(run: Run) -> EncodecModel:
    """What `sharpen` made of the checkpoint's codec, its codes numbered as they were as far as that goes."""
    path = run.folder / SHARP_FILE
    if run.start is None:
        sys.exit(f"{path} went on from a checkpoint: name its folder by --start")
    first = load_whole(run.start).audio_encoder
    clips = list(islice(all_clips(run.corpus), NAMING_SONGS))
    return named_after(CodecSharpener(path, first, run.sharpen).kept_codec(), first, clips)


def refined_codec(run: Run) -> EncodecModel:
    """The frozen codec, with its decoder trained further where that was done."""
    path, model = run.folder / DECODER_FILE, frozen_codec(run)
    return DecoderTrainer(path, model, run.refine).kept_codec() if path.exists() else model


if __name__ == "__main__":
    main()
