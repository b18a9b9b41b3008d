"""What a loaded checkpoint is, whatever format it came from.

Rules: plain data; knows no file format, no stream, and imports without torch. Names of decoder weights are
transformers' own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamgen.config import CONTROLS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from streamgen.checkpoint.code_bias import CodeBias
    from streamgen.checkpoint.encodec import Codec
    from streamgen.checkpoint.t5 import T5Encoder
    from streamgen.checkpoint.tokenizer import Tokenizer
    from streamgen.checkpoint.vocabulary import Vocabulary

__all__ = ["Checkpoint", "DecoderConfig", "GenerationDefaults", "MelodyConfig", "StyleConfig"]

USUAL_RATE_HZ, USUAL_HOP_SAMPLES = 32_000, 640  # of every MusicGen's codec: taken where there is none to ask


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of MusicGen's decoder.

    Attributes:
        hidden_size: width D.
        num_layers: transformer blocks.
        num_heads: attention heads; D / num_heads is the head's width.
        ffn_dim: inner width of the feed-forward part.
        num_codebooks: K; 4 for mono, 8 for stereo (left and right interleaved).
        vocab_size: V, codes per codebook; code V is the padding (and start) code.
        audio_channels: 1 or 2.
        max_positions: positions the model may use beside a prefix: what it was trained on, 1503 for Meta's.
        activation: name of the feed-forward activation, as in transformers' ACT2FN.
        cross_attention: True where text is attended to (MusicGen), False where it is a prefix (MusicGen Melody).
        prefix_positions: positions beside `max_positions` for what is read first: audio and text.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int
    vocab_size: int
    audio_channels: int
    max_positions: int
    activation: str = "gelu"
    cross_attention: bool = True
    prefix_positions: int = 0

    @property
    def positions(self) -> int:
        """Positions of a window with its prefix."""
        return self.max_positions + self.prefix_positions

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def channel_codebooks(self) -> int:
        """Codebooks per audio channel: also the number of distinct delays."""
        return self.num_codebooks // self.audio_channels


@dataclass(frozen=True)
class GenerationDefaults:
    """Defaults of controls that a checkpoint's own settings name; where it is silent they are the table's.

    `least_movement`: spectra of its music change by more (log10, mean over ten seconds); less is a drone to `guard`.
    `unsupported` names the controls that it was not made for: other values than the default do harm, or nothing.
    `top_p_alone`: where top_p is on, top_k is not looked at, as in audiocraft.
    """

    guidance_scale: float = float(CONTROLS["guidance_scale"].default)
    temperature: float = float(CONTROLS["temperature"].default)
    top_k: int = int(CONTROLS["top_k"].default)
    top_p: float = float(CONTROLS["top_p"].default)
    change_context_seconds: float = float(CONTROLS["change_context_seconds"].default)
    eval_q: int = int(CONTROLS["eval_q"].default)
    excerpt_seconds: float = float(CONTROLS["excerpt_seconds"].default)
    guard: bool = bool(CONTROLS["guard"].default)
    audition: int = int(CONTROLS["audition"].default)
    least_movement: float = 0.0
    unsupported: tuple[str, ...] = ()
    top_p_alone: bool = False


@dataclass(frozen=True)
class MelodyConfig:
    """How a melody becomes a prefix.

    Attributes:
        num_chroma: pitch classes, 12.
        chroma_length: frames of chroma in the prefix (235 for Meta's).
        n_fft, hop_length, sample_rate_hz: the spectrogram's.
        win_length: of its window; None is n_fft.
        seconds: how much of a melody is read.
    """

    num_chroma: int
    chroma_length: int
    n_fft: int = 16384
    hop_length: int = 4096
    sample_rate_hz: int = 32000
    win_length: int | None = None
    seconds: float = 30


@dataclass(frozen=True)
class StyleConfig:
    """How audio becomes a prefix of style.

    Attributes:
        features: what hears the audio: "encodec" or "mert".
        feature_codes: codes a codebook of EnCodec's, or MERT's width.
        feature_codebooks: of EnCodec's that are embedded.
        width, heads, layers: of the transformer.
        codebooks, codes: of the bottleneck.
        every: of its frames, one in so many is read by the decoder.
        sample_rate_hz: of the audio.
        centred: the excerpt is the audio's middle, not where the seed says.
        batch_norm: whether there is one before the bottleneck.
    """

    features: str
    feature_codes: int
    feature_codebooks: int
    width: int
    heads: int
    layers: int
    codebooks: int
    codes: int
    every: int
    sample_rate_hz: int
    centred: bool = False
    batch_norm: bool = True


@dataclass
class Checkpoint:
    """A checkpoint in memory, on the CPU, in the dtype it was stored in.

    Attributes:
        name: what the user asked for, e.g. "pocket" or "facebook/musicgen-small".
        folder: where it lies.
        format: "transformers" or "audiocraft".
        licence: licence of the weights, one line.
        decoder: shape of the decoder.
        weights: decoder tensors under transformers' MusicgenForCausalLM names without the outer "decoder." of the
            composite: "model.decoder.embed_tokens.{k}.weight" [V+1, D],
            "model.decoder.layers.{i}.self_attn.{q,k,v,out}_proj.weight", "….self_attn_layer_norm.{weight,bias}",
            "….encoder_attn.{q,k,v,out}_proj.weight" and "….encoder_attn_layer_norm.{weight,bias}" (where it is),
            "….fc1.weight", "….fc2.weight", "….final_layer_norm.{weight,bias}",
            "model.decoder.layer_norm.{weight,bias}", "lm_heads.{k}.weight" [V, D]; with the activation "prelu" also
            "….activation_fn.weight" [1].
        codec: EnCodec's settings and weights, float32; None where there is none: codes come of it, no sound.
        text_encoder, tokenizer: T5 encoder (float32) and its tokenizer; None for a decoder alone.
        text_projection: (weight [D, T5 width], bias [D]) of enc_to_dec_proj, float32, or None where widths are equal.
        melody: chroma settings of a melody checkpoint, else None.
        melody_projection: (weight [D, num_chroma], bias [D]), float32, melody checkpoints only.
        style: settings of a style checkpoint, else None.
        style_weights: its tensors, float32, under audiocraft's names in StyleConditioner.
        style_features: what hears the audio: an EnCodec, or transformers' HubertModel in eval mode; float32.
        defaults: of its controls.
        words: which of its words people's words mean, or None: it reads prompts as they are typed.
        code_bias: what is added to its logits under such words, or None.
        notes: what its settings say and has no effect here, or is otherwise than one would think: one line each.
        files: which files of the folder the weights are, as they were read; "" where they may have been changed since.
    """

    name: str
    folder: Path
    format: str
    licence: str
    decoder: DecoderConfig
    weights: dict[str, Tensor]
    codec: Codec | None
    text_encoder: T5Encoder | None = None
    tokenizer: Tokenizer | None = None
    text_projection: tuple[Tensor, Tensor] | None = None
    melody: MelodyConfig | None = None
    melody_projection: tuple[Tensor, Tensor] | None = None
    style: StyleConfig | None = None
    style_weights: dict[str, Tensor] | None = None
    style_features: Codec | PreTrainedModel | None = None
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    words: Vocabulary | None = None
    code_bias: CodeBias | None = None
    notes: tuple[str, ...] = ()
    files: str = ""

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of the codec, or of MusicGen's where there is none."""
        return USUAL_RATE_HZ if self.codec is None else int(self.codec.config.sampling_rate)

    @property
    def hop_samples(self) -> int:
        """Samples a frame."""
        return USUAL_HOP_SAMPLES if self.codec is None else int(self.codec.config.hop_length)

    @property
    def frame_rate_hz(self) -> float:
        """Frames a second."""
        return self.sample_rate_hz / self.hop_samples
