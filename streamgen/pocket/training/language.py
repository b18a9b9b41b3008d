"""The language model: transformers' MusicGen, its lean training forward, and the delay pattern.

Rules: no training loop, no data. The forward here runs over the weights of a `MusicgenForConditionalGeneration` and
says its causal mask itself: a model built from parts has no attention implementation set and sees the future, which
looks like success in training and is noise in generation. A test holds it to the reloaded checkpoint's logits.

The delay pattern, T = 4 frames of K = 4 codebooks, B the start token (pad as well), `a0` frame 0 of codebook a:

    step       0  1  2  3  4  5  6  7
    codebook a B a0 a1 a2 a3  B  B  B
    codebook b B  B b0 b1 b2 b3  B  B
    codebook c B  B  B c0 c1 c2 c3  B
    codebook d B  B  B  B d0 d1 d2 d3
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    EncodecModel,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention

from streamgen.pocket.training.codec import codec_config
from streamgen.pocket.training.copy_heads import install_copy_heads
from streamgen.pocket.training.quantizer import CODEBOOKS, CODES

START = CODES

# Windows of 15 s instead of MusicGen's 30: with 30, reading the past of two windows costs more than the weights, and
# the steps before a rollover took 1.7 times the median. Some four bars of context are enough for loops of one bar.
MAX_POSITIONS = 753


def new_language_model(text_vocabulary: int, seed: int = 0) -> MusicgenForConditionalGeneration:
    """A MusicGen of 12 M parameters whose first two layers copy one bar back from the start."""
    torch.manual_seed(seed)
    text = T5EncoderModel(
        T5Config(
            vocab_size=text_vocabulary,
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    decoder = MusicgenForCausalLM(decoder_config())
    _shrink(decoder)
    install_copy_heads(decoder)
    model = MusicgenForConditionalGeneration(
        text_encoder=text, audio_encoder=EncodecModel(codec_config()), decoder=decoder
    )
    for part in (model.text_encoder, model.decoder):  # left unset by the constructor, and masks are then ignored
        part.set_attn_implementation("sdpa")
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = START
        config.pad_token_id = START
        config.bos_token_id = START
    return model


def decoder_config(hidden: int = 384, layers: int = 4, ffn: int = 1280) -> MusicgenDecoderConfig:
    """The decoder's shape; heads are 64 wide."""
    return MusicgenDecoderConfig(
        vocab_size=CODES,
        max_position_embeddings=MAX_POSITIONS,
        num_hidden_layers=layers,
        ffn_dim=ffn,
        num_attention_heads=hidden // 64,
        hidden_size=hidden,
        dropout=0.0,
        num_codebooks=CODEBOOKS,
        audio_channels=1,
        pad_token_id=START,
        bos_token_id=START,
    )


def _shrink(decoder: MusicgenForCausalLM) -> None:
    """Make every block's last projection small, so the copied tokens pass the untrained layers unharmed."""
    for name, weight in decoder.named_parameters():
        if name.endswith(("out_proj.weight", "fc2.weight")):
            weight.data.mul_(0.3)


def delay(codes: Tensor) -> Tensor:
    """Codes [B, K, T] to delayed inputs and targets [B, K, T + K]; column 0 is the start, the rest as drawn above."""
    batch, books, frames = codes.shape
    out = codes.new_full((batch, books, frames + books), START)
    for book in range(books):
        out[:, book, 1 + book : 1 + book + frames] = codes[:, book]
    return out


def text_states(model: MusicgenForConditionalGeneration, ids: Tensor, mask: Tensor) -> Tensor:
    """Text states, zero where the mask is; a row without any text is the null condition.

    Args:
        model: the weights.
        ids: int64 [B, S], or [B, N, S]: several texts a row, each read by itself.
        mask: int64, as `ids`.

    Returns:
        float32 [B, S, hidden] or [B, N * S, hidden].
    """
    parts: Any = model
    flat = mask.flatten(0, -2)
    states = parts.text_encoder(input_ids=ids.flatten(0, -2), attention_mask=flat).last_hidden_state
    projected = torch.as_tensor(parts.enc_to_dec_proj(states) * flat[..., None])
    return projected.reshape(len(ids), -1, projected.shape[-1])


def hidden_states(decoder: Any, delayed: Tensor, states: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """The decoder's last hidden states.

    Args:
        decoder: the `MusicgenDecoder` whose weights are used; transformers' modules have no types mypy can follow.
        delayed: int64 [B, K, T], delayed codes with the start token in front.
        states: float32 [B, S, hidden] from `text_states`.
        mask: int64 [B, S], 1 where there is text; or [B, T, S], 1 where a column reads it.
        dropout: share of every block's output that is dropped, in training.

    Returns:
        float32 [B, T, hidden].
    """
    hidden = hidden_after(decoder, len(decoder.layers), delayed, states, mask, dropout)
    return torch.as_tensor(decoder.layer_norm(hidden))


def hidden_after(
    decoder: Any, layers: int, delayed: Tensor, states: Tensor, mask: Tensor, dropout: float = 0.0
) -> Tensor:
    """As `hidden_states`, but what the first layers alone leave, not yet normed."""
    hidden, bias = embedded(decoder, delayed), text_bias(mask)
    for layer in decoder.layers[:layers]:
        hidden = informed(layer, hidden, states, bias, dropout)
        hidden = hidden + F.dropout(layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden)))), dropout)
    return hidden


def embedded(decoder: Any, delayed: Tensor) -> Tensor:
    """What the first layer reads, float32 [B, T, hidden], of delayed codes [B, K, T]."""
    codes = torch.stack([table(delayed[:, book]) for book, table in enumerate(decoder.embed_tokens)]).sum(0)
    return torch.as_tensor(codes + decoder.embed_positions.weights[: delayed.shape[-1]])


def text_bias(mask: Tensor) -> Tensor:
    """What is added to the scores of texts [B, 1, T or 1, S] for a mask as `hidden_states` takes it."""
    bias = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_fill(mask == 0, -1e9)
    return bias[:, None, None] if bias.ndim == 2 else bias[:, None]


def informed(layer: Any, hidden: Tensor, states: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """A layer's input [B, T, hidden] after its attention to the past and to the text."""
    hidden = listened(layer, hidden, dropout)
    read = _attend(layer.encoder_attn, layer.encoder_attn_layer_norm(hidden), states, bias)
    return hidden + F.dropout(read, dropout)


def listened(layer: Any, hidden: Tensor, dropout: float = 0.0) -> Tensor:
    """A layer's input [B, T, hidden] after its attention to the past."""
    normed = layer.self_attn_layer_norm(hidden)
    return hidden + F.dropout(_attend(layer.self_attn, normed, normed, None), dropout)


def _attend(block: MusicgenAttention, queries: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of one block: causal over itself, or over the text with an additive `bias` [B, 1, T or 1, S]."""
    q, k, v = (_split(x, block.head_dim) for x in (block.q_proj(queries), block.k_proj(keys), block.v_proj(keys)))
    if bias is not None:
        bias = bias.to(q.dtype).expand(-1, 1, queries.shape[1], -1)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None)
    return torch.as_tensor(block.out_proj(mixed.transpose(1, 2).flatten(2)))


def _split(x: Tensor, width: int) -> Tensor:
    heads: Tensor = x.unflatten(-1, (-1, width))
    return heads.transpose(1, 2)


def logits(
    model: MusicgenForConditionalGeneration,
    ids: Tensor,
    mask: Tensor,
    delayed: Tensor,
    dropout: float = 0.0,
    read: Tensor | None = None,
) -> Tensor:
    """Logits [B, K, T, 1024] for delayed codes [B, K, T] under text; column t predicts column t + 1."""
    decoder: Any = model.decoder
    seen = mask.flatten(1) if read is None else read
    hidden = hidden_states(decoder.model.decoder, delayed, text_states(model, ids, mask), seen, dropout)
    return torch.stack([head(hidden) for head in decoder.lm_heads], dim=1)


def cross_entropy(
    model: MusicgenForConditionalGeneration,
    ids: Tensor,
    mask: Tensor,
    codes: Tensor,
    heard: Tensor | None = None,
    dropout: float = 0.0,
    read: Tensor | None = None,
) -> Tensor:
    """Cross-entropy in nats of each code of a clip under text.

    Args:
        model: the weights.
        ids: int64 [B, S] or [B, N, S], text tokens.
        mask: int64, as `ids`.
        codes: int64 [B, K, T], what is to be predicted.
        heard: int64 [B, K, T], what the model reads instead of `codes`, such as a damaged copy.
        dropout: as in `hidden_states`.
        read: int64 [B, T + K - 1, N * S], which text each column reads; None reads all.

    Returns:
        float32 [B, K, T].
    """
    inputs = delay(codes if heard is None else heard)[..., :-1]
    scores = logits(model, ids, mask, inputs, dropout, read).float()
    targets = delay(codes)[..., 1:]
    losses = F.cross_entropy(scores.permute(0, 3, 1, 2), targets.clamp(max=CODES - 1), reduction="none")
    frames = codes.shape[-1]
    return torch.stack([losses[:, book, book : book + frames] for book in range(CODEBOOKS)], dim=1)


def modules_to_train(model: MusicgenForConditionalGeneration) -> list[nn.Module]:
    """Everything but the codec."""
    return [model.text_encoder, model.decoder, model.enc_to_dec_proj]
