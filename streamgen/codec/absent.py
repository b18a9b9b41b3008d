"""NoCodec: in the place of the codec that a checkpoint does not have. Codes come of its streams, and no sound.

Rules: counts as a codec does, at MusicGen's rates, so that positions in samples mean what they mean elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from torch import Tensor

from streamgen.codec.decoder import StreamingDecoder
from streamgen.codec.state import CodecState
from streamgen.errors import CheckpointError

__all__ = ["NoCodec"]


class NoCodec(StreamingDecoder):
    """A codec that refuses to decode.

    Args:
        name: of the checkpoint, for messages.
        sample_rate_hz: to count in.
        hop_samples: of a frame.
        audio_channels: of the decoder.
        num_codebooks: of the decoder.
    """

    makes_sound = False

    def __init__(
        self, name: str, *, sample_rate_hz: int, hop_samples: int, audio_channels: int, num_codebooks: int
    ) -> None:
        self._name = name
        self.sample_rate_hz, self.hop_samples = sample_rate_hz, hop_samples
        self.audio_channels, self.num_codebooks = audio_channels, num_codebooks
        self.lookahead_samples, self.lookahead_frames, self.startup_frames = 0, 0, 1

    def new_state(self, batch: int) -> CodecState:
        """Return a state with nothing to remember."""
        return CodecState([], batch)

    def check_makes_sound(self) -> NoReturn:
        """Refuse.

        Raises:
            CheckpointError: always; says what to do.
        """
        raise CheckpointError(
            f"checkpoint {self._name} has no codec, so it makes no sound: read stream.tokens(), or save the EnCodec it "
            "was trained on in its folder 'audio_encoder' (EncodecModel.save_pretrained)"
        )

    def decode(self, codes: Tensor, state: CodecState) -> NoReturn:  # noqa: ARG002 - as a codec takes them
        """Refuse; see `check_makes_sound`."""
        self.check_makes_sound()

    def decode_together(self, codes: Sequence[Tensor], states: Sequence[CodecState]) -> NoReturn:  # noqa: ARG002
        """Refuse; see `check_makes_sound`."""
        self.check_makes_sound()

    def finish(self, state: CodecState) -> NoReturn:  # noqa: ARG002 - as a codec takes it
        """Refuse; see `check_makes_sound`."""
        self.check_makes_sound()
