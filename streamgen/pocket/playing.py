"""What a model samples from captions: codes, not sound; and the settings the checkpoint is made for.

Rules: knows a model and its captions' tokens; no training, no songs.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import EncodecModel, MusicgenForConditionalGeneration

from streamgen.pocket.quantizer import CODEBOOKS

GUIDANCE_SCALE, TEMPERATURE, TOP_K = 1.0, 0.45, 15  # what the exported checkpoint plays with
CHANGE_CONTEXT_SECONDS = 0.0  # of the music before, another prompt hears nothing: it would be copied


class CodesInsteadOfSound:
    """While open, the codec's decode only notes the codes it was given."""

    def __init__(self, codec: EncodecModel) -> None:
        """Wait for `with`."""
        self._codec: Any = codec
        self._decode: Any = codec.decode
        self.seen: list[Tensor] = []

    def __enter__(self) -> list[Tensor]:
        """Return the list that fills with codes [1, B, K, frames]."""

        def note(audio_codes: Tensor, audio_scales: object) -> object:  # noqa: ARG001
            self.seen.append(audio_codes.clone())
            return self._decode(audio_codes[..., :4], [None])

        self._codec.decode = note
        return self.seen

    def __exit__(self, *problem: object) -> None:
        """Let the codec decode again."""
        del self._codec.decode


@torch.no_grad()
def play(
    model: MusicgenForConditionalGeneration,
    ids: Tensor,
    mask: Tensor,
    frames: int,
    **settings: Any,
) -> Tensor:
    """Codes int64 [B, 4, frames] that a model samples under texts [B, S]; settings are transformers' for `generate`."""
    codec: Any = model.audio_encoder
    with CodesInsteadOfSound(codec) as seen:
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=frames + CODEBOOKS - 1, **settings)
    return seen[0][0]
