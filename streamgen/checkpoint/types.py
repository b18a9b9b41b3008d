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
    from transformers import EncodecModel, PreTrainedModel, PreTrainedTokenizerBase

    from streamgen.checkpoint.code_bias import CodeBias
    from streamgen.checkpoint.words import Vocabulary

__all__ = ["Checkpoint", "DecoderConfig", "GenerationDefaults", "MelodyConfig"]


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
        max_positions: positions the model may use (never more than 1503, what MusicGen was trained on).
        activation: name of the feed-forward activation, as in transformers' ACT2FN.
        cross_attention: True where text is attended to (MusicGen), False where it is a prefix (MusicGen Melody).
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

    `unsupported` names the controls that it was not made for: other values than the default do harm, or nothing.
    """

    guidance_scale: float = float(CONTROLS["guidance_scale"].default)
    temperature: float = float(CONTROLS["temperature"].default)
    top_k: int = int(CONTROLS["top_k"].default)
    top_p: float = float(CONTROLS["top_p"].default)
    change_context_seconds: float = float(CONTROLS["change_context_seconds"].default)
    guard: bool = bool(CONTROLS["guard"].default)
    audition: int = int(CONTROLS["audition"].default)
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True)
class MelodyConfig:
    """How a melody becomes a prefix.

    Attributes:
        num_chroma: pitch classes, 12.
        chroma_length: frames of chroma in the prefix (235 for Meta's).
        n_fft, hop_length, sample_rate_hz: the spectrogram's.
    """

    num_chroma: int
    chroma_length: int
    n_fft: int = 16384
    hop_length: int = 4096
    sample_rate_hz: int = 32000


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
            "model.decoder.layer_norm.{weight,bias}", "lm_heads.{k}.weight" [V, D].
        codec: transformers' EncodecModel in eval mode, float32.
        text_encoder, tokenizer: T5 encoder (float32, eval) and its tokenizer; None for a decoder alone.
        text_projection: (weight [D, T5 width], bias [D]) of enc_to_dec_proj, float32, or None where widths are equal.
        melody: chroma settings of a melody checkpoint, else None.
        melody_projection: (weight [D, num_chroma], bias [D]), float32, melody checkpoints only.
        defaults: of its controls.
        words: which of its words people's words mean, or None: it reads prompts as they are typed.
        code_bias: what is added to its logits under such words, or None.
    """

    name: str
    folder: Path
    format: str
    licence: str
    decoder: DecoderConfig
    weights: dict[str, Tensor]
    codec: EncodecModel
    text_encoder: PreTrainedModel | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    text_projection: tuple[Tensor, Tensor] | None = None
    melody: MelodyConfig | None = None
    melody_projection: tuple[Tensor, Tensor] | None = None
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    words: Vocabulary | None = None
    code_bias: CodeBias | None = None
