"""StreamingDecoder: codes in, exactly the samples that EncodecModel.decode would give, as soon as they are final.

Rules: batch, channels and frames are known here, arithmetic is in layers.py. No thread, no clock. The stream's memory
is a CodecState; nothing else outlives a call.

What "final" means for facebook/encodec_32khz, whose convolutions look ahead (hop 640, lookahead 2402 samples):

    frames in          1  2  3  4    5    6    …  n              finish
    samples out        .  .  .  158  798  1438 …  640·n - 2402   640·n
                       └ startup_frames ┘

A causal codec with reflect padding waits too, but only once: its first convolution mirrors frames that have not come.

How many frames to decode at once is the caller's choice: one at a time reads every weight 50 times a second; from 5
frames (0.1 s) on there is little to gain (docs/measurements.md, "EnCodec, piece by piece").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.encodec import decoder_layers
from streamgen.checkpoint.validate import check_streamable
from streamgen.codec.captured import SideBySide
from streamgen.codec.kernels import Native, StageRunner
from streamgen.codec.layers import Conv, Layer, Recurrent, Residual, Upsample
from streamgen.codec.state import CodecState
from streamgen.codec.weights import Encodec, Weights
from streamgen.errors import ConfigError, SessionClosed
from streamgen.graphs import Recorder, recorder_of
from streamgen.kernels.library import Stage

__all__ = ["StreamingDecoder"]

# Long inputs are decoded in pieces: activations stay in the cache and memory does not grow with the length.
_PIECE_FRAMES = 32
# Of all streams that share a call of torch's layers, left and right counted each: a GPU has work enough with these, and
# 1 GB between the layers of Meta's codec (docs/measurements.md, "EnCodec, piece by piece").
_FRAMES_AT_ONCE = 640


def _layers(weights: Weights, native: Native | None) -> list[Layer]:
    """Lay out the weights of each layer that the codec has; audiocraft can make one without an LSTM."""
    layers: list[Layer] = []
    for layer in decoder_layers(weights.config):
        own = weights.of(layer.name)
        if layer.kind == "conv":
            layers.append(Conv(own, elu=layer.elu, native=native))
        elif layer.kind == "finer":
            layers.append(Upsample(own, layer.stride, native))
        elif layer.kind == "residual":
            layers.append(Residual(own, layer.dilation, native))
        elif weights.has(layer.name):
            layers.append(Recurrent(own, native))
    return layers


class StreamingDecoder:
    """Decodes EnCodec codes piece by piece; the pieces together equal one decode of the whole.

    It keeps its own copy of the decoder's weights, weight norm folded. Any number of streams share one decoder.

    Attributes:
        makes_sound: whether there are weights to decode with; see `NoCodec`.
        sample_rate_hz: of the audio.
        hop_samples: samples per frame of codes.
        audio_channels: of the audio.
        num_codebooks: K, those of all channels together.
        lookahead_samples: samples, of those whose codes are in, that are not final yet because later codes touch them.
        lookahead_frames: the same in frames, rounded up; 0 for a causal codec.
        startup_frames: frames until the first sample is final.

    Source: EnCodec, arXiv:2210.13438, section 3.2; padding as in transformers' EncodecConv1d and
    EncodecConvTranspose1d.
    """

    makes_sound = True

    def __init__(
        self,
        codec: Encodec,
        *,
        audio_channels: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        native: Native | None = None,
        record: Recorder | None = None,
    ) -> None:
        """Fold and lay out the weights.

        Args:
            codec: the EnCodec; it is not changed and not kept.
            audio_channels: 2 with a mono codec: left and right have codebooks of their own, interleaved, and are
                decoded in one batch.
            device: where to decode.
            dtype: of weights and states; the audio is float32 always.
            native: the kernels that are to decode, on a CPU in float32; None is torch's.
            record: what decodes streams together on torch's kernels, see `streamgen.codec.captured`; None is CUDA
                graphs on a GPU, and one stream after another elsewhere.

        Raises:
            CheckpointError: the codec cannot be streamed.
            ConfigError: audio_channels does not suit the codec.
        """
        config = codec.config
        check_streamable(config, "this EnCodec")
        self._codec_channels = int(config.audio_channels)
        if audio_channels not in (self._codec_channels, 2 * self._codec_channels) or audio_channels > 2:
            raise ConfigError(
                f"audio_channels is {audio_channels}, the codec has {self._codec_channels}; 1 or 2 can be"
            )
        self.sample_rate_hz, self.hop_samples = int(config.sampling_rate), int(config.hop_length)
        self.audio_channels, self._parts = audio_channels, audio_channels // self._codec_channels
        self._like = torch.empty(0, device=device, dtype=dtype)
        self._read_weights(codec, native)
        record = recorder_of(self._like.device) if record is None else record
        self._side_by_side: SideBySide | None = None
        if record is not None:
            most = _FRAMES_AT_ONCE // self._parts
            self._side_by_side = SideBySide(self._decode_under_way, self.new_state, most, record)
        self.lookahead_samples = 0
        for layer in self._layers:
            self.lookahead_samples = layer.lag(self.lookahead_samples)
        self.lookahead_frames = -(-self.lookahead_samples // self.hop_samples)
        self.startup_frames = self._measure_startup()

    def _read_weights(self, codec: Encodec, native: Native | None) -> None:
        weights = Weights(codec.config, codec.state_dict(), self._like)
        tables = weights.codebooks()
        self.num_codebooks = len(tables) * self._parts
        self._codebook_size = tables[0].shape[0]
        self._table = torch.cat(tables)
        self._offsets = torch.arange(len(tables), device=self._like.device)[:, None] * self._codebook_size
        with torch.no_grad():
            self._layers = _layers(weights, native)
        self._called = len(self._layers)  # layers that a chain does not run
        self._chain = None if native is None else self._chained(native)

    def _chained(self, native: Native) -> StageRunner | None:
        """Return what runs the last layers, as far as the kernels know them, in one call."""
        sizes = [sum(tensor.numel() for tensor in layer.new_state(1, self._like).tensors) for layer in self._layers]
        stages: list[Stage] = []
        while self._called:
            more = self._layers[self._called - 1].stages(sum(sizes[: self._called - 1]))
            if more is None:
                break
            stages, self._called = [*more, *stages], self._called - 1
        return StageRunner(native, stages) if stages else None

    def _measure_startup(self) -> int:
        """Count frames until samples come: lookahead, or the first mirror if that is longer."""
        state = self.new_state(1)
        codes = torch.zeros(1, self.num_codebooks, 1, dtype=torch.int64, device=self._like.device)
        while not self.decode(codes, state).shape[2]:
            pass
        return state.frames_in

    def check_makes_sound(self) -> None:
        """Let through; see `NoCodec`."""

    def new_state(self, batch: int) -> CodecState:
        """Return the state of `batch` streams in lockstep that have not begun."""
        if batch < 1:
            raise ConfigError(f"batch is {batch}; at least 1 stream is needed")
        return CodecState([layer.new_state(batch * self._parts, self._like) for layer in self._layers], batch)

    @torch.no_grad()
    def decode(self, codes: Tensor, state: CodecState) -> Tensor:
        """Decode the next frames.

        Args:
            codes: int64 [B, K, n], n >= 1, on any device; 0 <= code < codebook size (checked on the CPU only: elsewhere
                the check would wait for the device). With audio_channels 2, codebooks 0::2 are left, 1::2 right.
            state: this stream's, updated in place.

        Returns:
            float32 [B, audio_channels, m]: every sample that is now final. m grows from 0 to n · hop_samples within
            the first frames and stays there.

        Raises:
            ConfigError: wrong shape, type or codes.
            SessionClosed: the stream was finished.
        """
        self._check(codes, state)
        rows = self._embed(codes)
        pieces = [self._run(piece, [state], last=False) for piece in rows.split(_PIECE_FRAMES, dim=1)]
        state.frames_in += codes.shape[2]
        return self._emit(pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1), state)

    @torch.no_grad()
    def decode_together(self, codes: Sequence[Tensor], states: Sequence[CodecState]) -> list[Tensor]:
        """Decode the next frames of several streams; each gets what `decode` would have given it.

        Args:
            codes: of each stream, as in `decode`, all on one device; those of as many frames share calls.
            states: theirs, each another.

        Returns:
            Of each stream, as `decode`. On a GPU products may be rounded otherwise beside others.

        Raises:
            ConfigError, SessionClosed: as `decode`; no stream is changed then.
        """
        for one, state in zip(codes, states, strict=True):
            self._check(one, state)
        alike: dict[tuple[int, ...], list[int]] = {}
        out: dict[int, Tensor] = {}
        shared = not self._called or self._side_by_side is not None
        for at, (one, state) in enumerate(zip(codes, states, strict=True)):
            if shared and one.shape[2] <= _PIECE_FRAMES and self._under_way(state, since=0):
                alike.setdefault(tuple(one.shape), []).append(at)
            else:
                out[at] = self.decode(one, state)
        for members in alike.values():
            given, own = [codes[at] for at in members], [states[at] for at in members]
            if self._side_by_side is not None:
                pcm = self._side_by_side(given, own)
            else:
                pcm = self._run(self._embed(torch.cat(given)), own, last=False)
            for at, rows in zip(members, pcm.split(len(pcm) // len(own)), strict=True):
                states[at].frames_in += codes[at].shape[2]
                out[at] = self._emit(rows, states[at])
        return [out[at] for at in range(len(codes))]

    @torch.no_grad()
    def finish(self, state: CodecState) -> Tensor:
        """End the stream: return the rest, padded on the right as a decode of the whole would be.

        Args:
            state: this stream's; it takes no codes afterwards.

        Returns:
            float32 [B, audio_channels, m]; all samples together are frames_in · hop_samples, at any length.
            (transformers 5 counts lengths in float32: beyond 2^24 samples, 8.7 minutes at 32 kHz, its whole decode
            pads by one sample too few or too many.)

        Raises:
            SessionClosed: the stream was finished before.
        """
        if state.finished:
            raise SessionClosed("this codec stream was finished; open another with new_state")
        state.finished = True
        rows = self._like.new_empty(state.batch * self._parts, 0, self._table.shape[1])
        if not state.frames_in:
            return self._emit(rows[..., : self._codec_channels], state)
        return self._emit(self._run(rows, [state], last=True), state)

    def _embed(self, codes: Tensor) -> Tensor:
        """Sum the codebooks' vectors: [B, K, n] to [B · parts, n, width], left and right of an item side by side."""
        batch, books, frames = codes.shape
        parted = codes.reshape(batch, books // self._parts, self._parts, frames).transpose(1, 2).flatten(0, 1)
        return F.embedding(parted.to(self._like.device) + self._offsets, self._table).sum(1)

    def _decode_under_way(self, codes: Tensor, state: CodecState) -> Tensor:
        return self._run(self._embed(codes), [state], last=False)

    def _run(self, x: Tensor, states: Sequence[CodecState], last: bool) -> Tensor:
        """Run all layers on the rows of one state, or of several that no layer needs to be called for."""
        chain = self._chain if not last and all(self._under_way(state, self._called) for state in states) else None
        assert len(states) == 1 or (chain is not None and not self._called), "they share calls of the kernels alone"
        called = len(self._layers) if chain is None else self._called
        for layer, memory in zip(self._layers[:called], states[0].layers[:called], strict=True):
            x = layer(x, memory, last)
            if not x.shape[1] and not last:
                return x.new_empty(x.shape[0], 0, self._codec_channels)
        return x if chain is None else chain(x.contiguous(), [state.memory for state in states])

    def _under_way(self, state: CodecState, since: int) -> bool:
        """Tell whether the layers from one on are past their beginning, in which each has to be called by itself."""
        later = zip(self._layers[since:], state.layers[since:], strict=True)
        return all(layer.under_way(memory) for layer, memory in later)

    def _emit(self, rows: Tensor, state: CodecState) -> Tensor:
        """Turn [B · parts, m, C] into sound: [B, audio_channels, m]."""
        audio = rows.transpose(1, 2).reshape(state.batch, self.audio_channels, rows.shape[1])
        state.samples_out += audio.shape[2]
        return audio.float()

    def _check(self, codes: Tensor, state: CodecState) -> None:
        if state.finished:
            raise SessionClosed("this codec stream was finished; open another with new_state")
        wanted = (state.batch, self.num_codebooks)
        if codes.dtype != torch.int64 or codes.ndim != 3 or tuple(codes.shape[:2]) != wanted or not codes.shape[2]:
            raise ConfigError(
                f"codes are {codes.dtype} {list(codes.shape)}; "
                f"this stream takes torch.int64 [{wanted[0]}, {wanted[1]}, n], n >= 1"
            )
        if codes.device.type == "cpu":
            low, high = codes.aminmax()
            if low < 0 or high >= self._codebook_size:
                raise ConfigError(
                    f"codes reach from {int(low)} to {int(high)}; this codec knows 0 to {self._codebook_size - 1}"
                )
