"""Padding, cut into chunks: which inputs a convolution sees when its input comes piece by piece.

Rules: knows lengths and padding, no weights. Padding is EnCodec's: every convolution pads its own input, at its own
resolution, on both sides; what it pads with may be a mirror image of samples that have not come yet.

    whole input         a b c d e f                    kernel spans 5, reflect: left 2, right 2
    padded, at once     c b a b c d e f e d
    chunk  ab           ......................         nothing: the mirror on the left still needs c
    chunk  cd           c b a b c d                    outputs of a, b       keeps  a b c d
    chunk  ef                   a b c d e f            outputs of c, d       keeps  c d e f
    the end                         c d e f e d        outputs of e, f

An input that ends before the mirror is complete (1 or 2 samples above) is padded in one go, as a whole decode would.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.codec.state import PaddingState, zeros

__all__ = ["Padding", "pad"]


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad [B, T, C] along T as transformers' EncodecConv1d does.

    A mirror needs more samples than it shows: a shorter input first gets zeros on its right, and as many padded
    samples are cut from the end afterwards.
    """
    if not left and not right:
        return x
    short = max(0, max(left, right) + 1 - x.shape[1]) if mode == "reflect" else 0
    lengthened = F.pad(x, (0, 0, 0, short)).transpose(1, 2)
    padded = F.pad(lengthened, (left, right), mode=mode).transpose(1, 2)
    return padded[:, : padded.shape[1] - short].contiguous()


@dataclass(frozen=True)
class Padding:
    """The padding of one convolution, and how much of its input it must remember.

    Attributes:
        left, right: padding, in samples of its resolution.
        mode: one of `streamgen.checkpoint.validate.STREAMABLE_PADDING`.
    """

    left: int
    right: int
    mode: str

    @property
    def size(self) -> int:
        """Inputs to remember: one less than a kernel spans. It has room for the inputs that wait for the start, too."""
        return self.left + self.right

    @property
    def needed(self) -> int:
        """Inputs without which no output is final, or the left padding is unknown."""
        mirrored = self.left + 1 if self.mode == "reflect" and self.left else 1
        return max(mirrored, self.right)

    def new_state(self, batch: int, channels: int, like: Tensor) -> PaddingState:
        """State of a stream that has not begun; `like` tells device and dtype."""
        return PaddingState(zeros(batch, self.size, channels, like=like))

    def join(self, x: Tensor, state: PaddingState, last: bool) -> Tensor:
        """Put new inputs behind the remembered ones.

        Args:
            x: [B, n, C], n >= 0.
            state: updated in place.
            last: True pads the right side: no input follows.

        Returns:
            [B, m, C], contiguous: the inputs of m - size outputs that are now final (none where m <= size).
        """
        if state.started:
            joined = torch.cat((state.context, x), 1) if self.size else x.contiguous()
            return self._remember(pad(joined, 0, self.right, self.mode) if last else joined, state)
        return self._begin(torch.cat((state.context[:, self.size - state.held :], x), 1), state, last)

    def _begin(self, x: Tensor, state: PaddingState, last: bool) -> Tensor:
        if last:
            state.started = True
            return pad(x, self.left, self.right, self.mode)
        if x.shape[1] < self.needed:
            state.held = x.shape[1]
            state.context[:, self.size - state.held :] = x
            return x[:, :0]
        state.started, state.held = True, 0
        return self._remember(pad(x, self.left, 0, self.mode), state)

    def _remember(self, joined: Tensor, state: PaddingState) -> Tensor:
        if self.size:
            state.context.copy_(joined[:, joined.shape[1] - self.size :])
        return joined
