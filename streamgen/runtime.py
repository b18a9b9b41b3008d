"""What the streams of one model share: weights, cache, prompts, window layout, clock, lock, scheduler.

    Model ─► Stream, Batch ─► Runtime ─┬─ engine     decoder and cache rows
                                       ├─ codec      codes to sound
                                       ├─ prompts    texts and melodies to rows
                                       ├─ layout     seconds to window plans
                                       └─ scheduler  streams that step together

A model may be used from any thread: whatever touches the rows of the cache, or a stream, runs within `alone`. What only
computes (a text, an audio prompt) runs within `computing`, beside the music. Both keep out what the program around them
has set torch to: autocast, number of threads, default device. Nothing here depends on the others: no weight asks for a
gradient, what lasts is made outside of inference mode, and every dtype is named.

Rules: starts no thread; knows no stream. torch's number of threads is the caller's, set around the work and put back.
torch keeps one for each thread, and starts a new thread with what was set last: one that first computes while another
plays begins with that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.at_rest import keep_in_file
from streamgen.audio import check_no_lone_rate
from streamgen.checkpoint.encodec import Codec
from streamgen.checkpoint.types import Checkpoint, DecoderConfig, GenerationDefaults
from streamgen.codec import Native, NoCodec, StreamingDecoder, encode_audio
from streamgen.conditioning.melody import MelodyConditioner
from streamgen.conditioning.rows import Prompts
from streamgen.conditioning.style import StyleConditioner
from streamgen.conditioning.text import TextConditioner
from streamgen.errors import ConfigError, NumericError, PromptError
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import NOT_DRAWN, LmEngine
from streamgen.lm.precision import choose_engine
from streamgen.lm.rounding import ROUNDED, sketched
from streamgen.lm.step import Step, StepSettings
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.windows import WindowLayout
from streamgen.scheduler import Scheduler

__all__ = ["Facts", "Runtime", "computing_on"]

Audio = NDArray[np.float32]
_log = logging.getLogger("streamgen")


@dataclass(frozen=True)
class Facts:
    """What a loaded model says of itself.

    Attributes:
        name, format, licence, weights: the checkpoint's; of its weights eight digits that tell them from others.
        precision: "fp32", "bf16", "fp16", "int8", "int6", "mixed" or "int4", as chosen.
        load_note: one line: what was chosen and why.
        kernels: "torch", or the instruction set of the native ones.
        threads: how many compute; None is as many as torch is set to.
        notes: what the checkpoint's settings say and has no effect here, or is otherwise than one would think.
    """

    name: str
    format: str
    licence: str
    precision: str
    load_note: str
    kernels: str = "torch"
    threads: int | None = None
    notes: tuple[str, ...] = ()
    weights: str = ""


@dataclass(eq=False, repr=False)
class Runtime:
    """A checkpoint ready to play, as its streams see it.

    Attributes:
        facts: what it says of itself.
        config: shape of the decoder.
        defaults: of the controls of new streams.
        device: where the decoder runs.
        threads: how many torch computes on; None is what torch is set to.
        engine, codec, prompts, pattern: the parts.
        encode: the newest window's worth of an audio prompt, and its samples a second, into codes int64 [K, frames].
        clock: seconds by which steps are timed.
        lock: around whatever streams share; the same thread may take it again.
        told: what need not be said in the log again.
        layout, scheduler: made of the others.
    """

    facts: Facts
    config: DecoderConfig
    defaults: GenerationDefaults
    device: torch.device
    threads: int | None
    engine: LmEngine
    codec: StreamingDecoder
    prompts: Prompts
    pattern: DelayPattern
    encode: Callable[[Audio, int | None], Tensor]
    clock: Callable[[], float] = time.perf_counter
    lock: threading.RLock = field(default_factory=threading.RLock)
    told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Make what is made of the parts."""
        self.layout = WindowLayout(self.config.max_positions, self.frame_rate_hz, self.config.prefix_positions)
        self.scheduler: Scheduler[Step, Tensor] = Scheduler(
            lambda steps: self.engine.step(steps), around=self.alone, clock=lambda: self.clock()
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, precision: str, threads: int | None = None) -> Runtime:
        """Lay a checkpoint out for a device.

        Raises:
            ConfigError: a precision that does not run there.
        """
        decoder = checkpoint.decoder
        with ExitStack() as own:
            for setting in (torch.inference_mode(False), *_own_settings(device)):
                own.enter_context(setting)
            pattern = DelayPattern.of(decoder.num_codebooks, decoder.audio_channels, decoder.vocab_size)
            frame_seconds = 1 / checkpoint.frame_rate_hz
            choice = choose_engine(
                checkpoint, pattern, frame_seconds, device=device, precision=precision, threads=threads
            )
            native = None
            if choice.library is not None and choice.precision in ROUNDED:  # whose codec rounds as well
                native = Native(choice.library, choice.library.pool(choice.native_threads))
            codec, text_encoder = _codec(checkpoint, device, native), checkpoint.text_encoder
            prompts = Prompts(
                TextConditioner(
                    checkpoint,
                    new_lock=threading.Lock,
                    rest=(lambda: None) if text_encoder is None else keep_in_file(text_encoder.tensors),
                ),
                MelodyConditioner(checkpoint),
                choice.engine.projector.project,
                style=StyleConditioner(checkpoint),
                reads=_read_first(checkpoint),
                new_lock=threading.Lock,
            )
        return cls(
            Facts(
                checkpoint.name,
                checkpoint.format,
                checkpoint.licence,
                choice.precision,
                choice.note,
                choice.library.instruction_set if choice.library else "torch",
                choice.native_threads if choice.library else choice.threads,
                checkpoint.notes,
                sketched(checkpoint),
            ),
            decoder,
            checkpoint.defaults,
            device,
            choice.threads,
            choice.engine,
            codec,
            prompts,
            pattern,
            _encoder(checkpoint),
        )

    @property
    def frame_rate_hz(self) -> float:
        """Frames a second."""
        return self.codec.sample_rate_hz / self.codec.hop_samples

    # -- threads and torch's settings -----------------------------------------------------------------------------

    def computing(self) -> AbstractContextManager[None]:
        """Compute within the block under this package's own torch settings, whatever the program around it has set."""
        return _Computing(self.device, self.threads)

    def alone(self) -> AbstractContextManager[None]:
        """Compute within the block, and no other thread touches what streams share."""
        return _Computing(self.device, self.threads, self.lock)

    # -- streams --------------------------------------------------------------------------------------------------

    def open_tokens(self, settings: StepSettings, keep_frames: int = 0, total_frames: int | None = None) -> TokenStream:
        """Begin a token stream in this model's cache.

        Raises:
            CapacityError: no room for its rows.
        """
        return TokenStream(
            self.pattern,
            settings,
            self.engine.cache,
            self.engine.cross,
            keep_frames=keep_frames,
            total_frames=total_frames,
            limit=self.config.positions,
        )

    def prompt_codes(self, audio: Audio | None, rate_hz: int | None) -> Tensor | None:
        """Encode the newest window's worth of an audio prompt, int64 [K, frames]. See `Model.prompt_codes`."""
        check_no_lone_rate("audio_prompt", audio, rate_hz)
        if audio is None:
            return None
        with self.computing():
            return self.encode(audio, rate_hz)

    def check_codes(self, codes: object) -> None:
        """Check codes of a piece.

        Raises:
            ConfigError: another shape, type or range.
        """
        books, size = self.config.num_codebooks, self.config.vocab_size
        wanted = f"codes are torch.int64 [{books}, frames], 0 to {size - 1}"
        if not isinstance(codes, Tensor) or codes.dtype != torch.int64:
            raise ConfigError(f"{wanted}, not {codes.dtype if isinstance(codes, Tensor) else type(codes).__name__}")
        if codes.ndim != 2 or codes.shape[0] != books or not codes.shape[1]:
            raise ConfigError(f"{wanted}, not of shape {list(codes.shape)}")
        low, high = codes.min(), codes.max()
        if low < 0 or high >= size:
            raise ConfigError(f"{wanted}; these reach from {low} to {high}")

    def check_fits(self, codes: Tensor, prefix: int) -> None:
        """Check that one window holds a piece beside a prefix.

        Raises:
            ConfigError: it does not.
        """
        most = self.layout.room(prefix) - self.pattern.max_delay
        if codes.shape[1] > most:
            raise ConfigError(f"{codes.shape[1]} frames are more than a window holds, {most}: leave some out")

    def check_numbers(self, drawn: Tensor) -> None:
        """Check a column that a pass drew.

        Raises:
            NumericError: its logits were no numbers, so that what was drawn is nothing.
        """
        if int(drawn[0]) == NOT_DRAWN:
            raise NumericError(
                f"the decoder's results are NaN or infinite in {self.facts.precision}: "
                + (
                    "the checkpoint's weights are damaged, download it again"
                    if self.facts.precision == "fp32"
                    else "load the model with precision='fp32', or 'bf16', whose range is the same"
                )
            )

    def newest(self, codes: Tensor, frames: int) -> Tensor:
        """Keep at most the newest `frames` of an audio prompt, and say so where that cuts it."""
        if codes.shape[1] > frames:
            lengths = codes.shape[1] / self.frame_rate_hz, frames / self.frame_rate_hz
            _log.warning("the audio prompt has %.2f s or more, room is for %.2f s: its newest part is kept", *lengths)
        return codes[:, -frames:]


def _codec(checkpoint: Checkpoint, device: torch.device, native: Native | None) -> StreamingDecoder:
    decoder = checkpoint.decoder
    if checkpoint.codec is not None:
        return StreamingDecoder(checkpoint.codec, audio_channels=decoder.audio_channels, device=device, native=native)
    return NoCodec(
        checkpoint.name,
        sample_rate_hz=checkpoint.sample_rate_hz,
        hop_samples=checkpoint.hop_samples,
        audio_channels=decoder.audio_channels,
        num_codebooks=decoder.num_codebooks,
    )


def _encoder(checkpoint: Checkpoint) -> Callable[[Audio, int | None], Tensor]:
    decoder = checkpoint.decoder
    if checkpoint.codec is None:
        return partial(_no_encoder, checkpoint.name)
    return partial(
        _encode,
        checkpoint.codec,
        keep_in_file(checkpoint.codec.tensors),
        audio_channels=decoder.audio_channels,
        last_seconds=decoder.max_positions / checkpoint.frame_rate_hz,
    )


def _no_encoder(name: str, audio: Audio, rate_hz: int | None) -> NoReturn:  # noqa: ARG001 - as `encode_audio`
    raise PromptError(f"checkpoint {name} has no codec to read audio with: give its codes, audio_prompt_codes")


def _read_first(checkpoint: Checkpoint) -> str | None:
    """What every stream begins with; a decoder alone without cross-attention has room for text there, and no more."""
    if checkpoint.melody is not None:
        return "melody"
    if checkpoint.style is not None:
        return "style"
    return None if checkpoint.decoder.cross_attention else "text"


def _encode(codec: Codec, rest: Callable[[], None], audio: Audio, rate_hz: int, **wanted: Any) -> Tensor:
    """Encode an audio prompt, and let the encoder's weights rest again."""
    codes = encode_audio(codec, audio, rate_hz, **wanted)
    rest()
    return codes


@contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Compute on so many threads within the block; None leaves torch as it is.

    A small checkpoint's products fit into one core's cache: a second thread gains less than waiting for it costs, and
    where other programs use that core it costs everything (docs/measurements.md, "Threads").
    """
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Computing:
    """A block under our own torch settings: entered for every step, so what need not be changed costs next to nothing.

    Args:
        device: of the model.
        threads: how many torch computes on; None leaves them.
        lock: held meanwhile.
    """

    def __init__(self, device: torch.device, threads: int | None, lock: threading.RLock | None = None) -> None:
        self._device, self._threads, self._lock = device, threads, lock
        self._held = _NOTHING

    def __enter__(self) -> None:
        """Take the lock, then set what is set otherwise."""
        if self._lock is not None:
            self._lock.acquire()
        try:
            foreign = _own_settings(self._device)
            if self._threads is not None and self._threads != torch.get_num_threads():
                foreign.append(computing_on(self._threads))
            if foreign:
                self._held = ExitStack()
                for setting in foreign:
                    self._held.enter_context(setting)
        except BaseException:  # interrupted: the block is not entered, so nobody would leave it
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        if self._held is not _NOTHING:
            self._held.close()
        if self._lock is not None:
            self._lock.release()


_NOTHING = ExitStack()


@contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Let torch's own kernels attend.

    cuDNN's come first on newer GPUs, and make a plan for each shape, which takes longer than a step: of a prefill each
    piece has another shape. torch has one switch for all threads, so another's may be planned meanwhile.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


def _own_settings(device: torch.device) -> list[AbstractContextManager[object]]:
    """Hold off autocast, for what runs in fewer bits is chosen when a model is loaded, and another default device.

    On a GPU cuDNN's attention, too.
    """
    kinds = ("cpu",) if device.type == "cpu" else ("cpu", device.type)
    held: list[AbstractContextManager[object]] = [
        torch.autocast(kind, enabled=False) for kind in kinds if torch.is_autocast_enabled(kind)
    ]
    if torch.empty(0).device.type != "cpu":  # torch.get_default_device asks more, and takes its time
        held.append(torch.device("cpu"))
    if device.type == "cuda" and torch.backends.cuda.cudnn_sdp_enabled():
        held.append(_without_cudnn_attention())
    return held
