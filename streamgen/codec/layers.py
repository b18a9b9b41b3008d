"""EnCodec's decoder layers, fed piece by piece: convolution, LSTM, transposed convolution, residual block.

Rules: a layer holds weights, a stream's memory is its state argument. Audio is time-major, [B, T, C]; a layer returns
every output that is now final, all of them when `last` is True. Layers know nothing of codes, frames or channels of
sound. Weights come by transformers' names, their weight norm folded once.

How far a layer lags, in samples of its output, is what `lag` adds up: a convolution waits for its right padding, a
transposed convolution gives raw samples that its left trimming shifts to earlier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.codec.kernels import Convolution, Native, NativeLstm, elu_in_place
from streamgen.codec.padding import Padding
from streamgen.codec.state import LayerState, PaddingState, RecurrentState, UpsampleState, zeros
from streamgen.codec.weights import Weights
from streamgen.kernels.library import Stage
from streamgen.linear import Linear

__all__ = ["Conv", "Layer", "Recurrent", "Residual", "Upsample"]


class Layer(Protocol):
    """One streaming layer."""

    def new_state(self, batch: int, like: Tensor) -> LayerState:
        """State of a stream that has not begun, of `like`'s device and dtype."""
        ...

    def lag(self, lag: int) -> int:
        """Samples by which the output lags, where the input lags by `lag`."""
        ...

    def __call__(self, x: Tensor, state: LayerState, last: bool) -> Tensor:
        """Take [B, n, C_in], n >= 0, which may be overwritten; return what is final, [B, m, C_out]."""
        ...

    def stages(self, at: int) -> list[Stage] | None:
        """Describe it to a chain of the native kernels; None where it needs to be called.

        Args:
            at: numbers of a stream's memory before what it remembers.
        """
        ...

    def under_way(self, state: LayerState) -> bool:
        """Tell whether a stream is past its beginning, in which a layer needs to be called."""
        ...


def _padding(weights: Weights, kernel: int, dilation: int) -> Padding:
    """Stride is 1 throughout the decoder, so that transformers' extra padding is 0."""
    total = (kernel - 1) * dilation
    right = 0 if weights.config.use_causal_conv else total // 2
    return Padding(total - right, right, weights.config.pad_mode)


class Conv:
    """A padded convolution, after an ELU or not."""

    def __init__(self, weights: Weights, *, elu: bool, dilation: int = 1, native: Native | None = None) -> None:
        weight, bias = weights.convolution()
        self.padding, self._elu = _padding(weights, weight.shape[2], dilation), elu
        self._convolution = Convolution(weight, bias, dilation=dilation, native=native)

    def new_state(self, batch: int, like: Tensor) -> PaddingState:
        """State of a stream that has not begun."""
        return self.padding.new_state(batch, self._convolution.in_channels, like)

    def lag(self, lag: int) -> int:
        """Right padding comes on top."""
        return lag + self.padding.right

    def __call__(self, x: Tensor, state: LayerState, last: bool) -> Tensor:
        """Return the outputs that are now final. ELU keeps 0 and commutes with mirroring: it may precede padding."""
        assert isinstance(state, PaddingState), state
        joined = self.padding.join(elu_in_place(x, self._convolution.native) if self._elu else x, state, last)
        if joined.shape[1] <= self.padding.size:
            return x.new_empty(x.shape[0], 0, self._convolution.out_channels)
        return self._convolution(joined)

    def stages(self, at: int) -> list[Stage] | None:
        """Describe it to a chain."""
        if self._convolution.native is None:
            return None
        return [self._convolution.stage(at, elu=self._elu)]

    def under_way(self, state: LayerState) -> bool:
        """Tell whether a stream's left padding is known."""
        assert isinstance(state, PaddingState), state
        return state.started


class Residual:
    """ELU, convolution, ELU, pointwise convolution, plus the input (or a pointwise convolution of it).

    It remembers its input before the ELU: the shortcut needs it, as late as the convolution's right padding makes it.
    """

    def __init__(self, weights: Weights, dilation: int, native: Native | None = None) -> None:
        weight, bias = weights.of("block.1").convolution()
        self.padding = _padding(weights, weight.shape[2], dilation)
        self._wide = Convolution(weight, bias, dilation=dilation, native=native)
        self._point = Convolution(*weights.of("block.3").convolution(), native=native)
        past = weights.of("shortcut")
        self._shortcut = Convolution(*past.convolution(), native=native) if weights.has("shortcut") else None

    def new_state(self, batch: int, like: Tensor) -> PaddingState:
        """State of a stream that has not begun."""
        return self.padding.new_state(batch, self._wide.in_channels, like)

    def lag(self, lag: int) -> int:
        """Right padding comes on top."""
        return lag + self.padding.right

    def __call__(self, x: Tensor, state: LayerState, last: bool) -> Tensor:
        """Return the outputs that are now final."""
        assert isinstance(state, PaddingState), state
        joined = self.padding.join(x, state, last)
        steps = joined.shape[1] - self.padding.size
        if steps <= 0:
            return x[:, :0]
        inner = self._wide(elu_in_place(joined.clone(), self._wide.native), elu=True)
        residual = joined[:, self.padding.left : self.padding.left + steps]
        return self._point(inner, added=residual if self._shortcut is None else self._shortcut(residual.contiguous()))

    def stages(self, at: int) -> list[Stage] | None:
        """Describe it to a chain."""
        native = self._wide.native is not None and self._point.native is not None and self._shortcut is None
        if not native:
            return None
        return [self._point.add_to(self._wide.stage(at, elu=False, left=self.padding.left))]

    def under_way(self, state: LayerState) -> bool:
        """Tell whether a stream's left padding is known."""
        assert isinstance(state, PaddingState), state
        return state.started


class Recurrent:
    """A stack of forward LSTMs, plus its input.

    Written out, because torch's own repacks all weights in every call, which for a frame or two is most of the time.
    """

    def __init__(self, weights: Weights, native: Native | None = None) -> None:
        self._width = weights("lstm.weight_hh_l0").shape[1]
        kernels = native if native is not None and NativeLstm.fits(self._width) else None
        layers = range(weights.config.num_lstm_layers)
        self._stack = [self._layer(weights.of("lstm"), layer, kernels) for layer in layers]

    @staticmethod
    def _layer(weights: Weights, layer: int, native: Native | None) -> _Lstm | NativeLstm:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        into, again, bias, more = (weights(f"{name}_l{layer}") for name in names)
        if native is not None:
            return NativeLstm(native, into, again, bias + more)
        return _Lstm(Linear(into, bias + more), Linear(again))

    def new_state(self, batch: int, like: Tensor) -> RecurrentState:
        """State of a stream that has not begun."""
        shape = (len(self._stack), batch, self._width)
        return RecurrentState(zeros(*shape, like=like), zeros(*shape, like=like))

    def lag(self, lag: int) -> int:
        """It looks backwards only."""
        return lag

    def __call__(self, x: Tensor, state: LayerState, last: bool) -> Tensor:  # noqa: ARG002 - it has no padding
        """Return one output for each input."""
        assert isinstance(state, RecurrentState), state
        out = x
        if x.shape[1]:
            for layer, hidden, cell in zip(self._stack, state.hidden, state.cell, strict=True):
                out = layer(out, hidden, cell)
        return out + x

    def stages(self, at: int) -> list[Stage] | None:
        """Describe its layers to a chain."""
        stages: list[Stage] = []
        for number, layer in enumerate(self._stack):
            if not isinstance(layer, NativeLstm):
                return None
            hidden, cell = (at + (number + part) * self._width for part in (0, len(self._stack)))
            stages.append(layer.stage(hidden, cell, last=number + 1 == len(self._stack)))
        return stages

    def under_way(self, state: LayerState) -> bool:  # noqa: ARG002 - it has no padding
        """Tell that it always is."""
        return True


@dataclass(frozen=True)
class _Lstm:
    """One layer of an LSTM."""

    into: Linear
    again: Linear

    def __call__(self, x: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """Run [B, n, H]; the part that does not depend on the past is one product for all steps."""
        batch, steps, width = x.shape
        driven = self.into(x.reshape(batch * steps, width)).view(batch, steps, 4 * width)
        out = torch.empty_like(x)
        for step in range(steps):
            _advance(self.again(hidden).add_(driven[:, step]), hidden, cell)
            out[:, step] = hidden
        return out


def _advance(gates: Tensor, hidden: Tensor, cell: Tensor) -> None:
    """One step of an LSTM from its gates [B, 4·H] (input, forget, new, output), in place."""
    width = hidden.shape[1]
    new = torch.tanh(gates[:, 2 * width : 3 * width])
    take, keep, _, show = gates.sigmoid_().chunk(4, 1)
    cell.mul_(keep).addcmul_(take, new)
    torch.mul(show, torch.tanh(cell), out=hidden)


class Upsample:
    """ELU and a transposed convolution, as a plain convolution that gives `stride` samples for each input.

    With kernel 2·stride, as EnCodec has it, block i of the raw output is seen by inputs i - 1 and i only. The raw
    output starts `trim` samples too early; they are cut from its front, and the end needs one more (zero) input.

        input          x0        x1        x2       (0)
        raw block    [ 0,x0 ]  [x0,x1 ]  [x1,x2 ]  [x2,0 ]
        output           [ stride ][ stride ][ stride ]         trim = where the output begins in block 0
    """

    def __init__(self, weights: Weights, stride: int, native: Native | None = None) -> None:
        weight, bias = weights.convolution()  # [in, out, kernel]
        self._stride, config = stride, weights.config
        kernel, taps = weight.shape[2], -(-weight.shape[2] // self._stride)
        total = kernel - self._stride
        self._trim = total - (math.ceil(total * config.trim_right_ratio) if config.use_causal_conv else total // 2)
        self._tail = -(-self._trim // self._stride)
        self._padding = Padding(taps - 1, 0, "constant")
        self._convolution = self._polyphase(F.pad(weight, (0, taps * self._stride - kernel)), bias, native)

    def _polyphase(self, weight: Tensor, bias: Tensor, native: Native | None) -> Convolution:
        """Weight [in, out, taps · stride] as [stride · out, in, taps]; the newest input meets the kernel's start."""
        into, out, _ = weight.shape
        phases = weight.view(into, out, -1, self._stride).flip(2).permute(3, 1, 0, 2)
        return Convolution(phases.reshape(self._stride * out, into, -1), bias.repeat(self._stride), native=native)

    def new_state(self, batch: int, like: Tensor) -> UpsampleState:
        """State of a stream that has not begun."""
        return UpsampleState(self._padding.new_state(batch, self._convolution.in_channels, like), self._trim)

    def lag(self, lag: int) -> int:
        """Count the input's lag in output samples; the trimmed front comes on top."""
        return lag * self._stride + self._trim

    def __call__(self, x: Tensor, state: LayerState, last: bool) -> Tensor:
        """Return the outputs that are now final."""
        assert isinstance(state, UpsampleState), state
        x = elu_in_place(x, self._convolution.native)
        if last and self._tail:
            x = F.pad(x, (0, 0, 0, self._tail))
        raw = self._blocks(self._padding.join(x, state.padding, last=False))
        skip = min(state.skip, raw.shape[1])
        state.skip -= skip
        end = raw.shape[1] - (self._tail * self._stride - self._trim if last else 0)
        return raw[:, skip:end]

    def stages(self, at: int) -> list[Stage] | None:
        """Describe it to a chain."""
        if self._convolution.native is None:
            return None
        return [self._convolution.stage(at, elu=True, stride=self._stride)]

    def under_way(self, state: LayerState) -> bool:
        """Tell whether a stream's front is trimmed."""
        assert isinstance(state, UpsampleState), state
        return state.padding.started and not state.skip

    def _blocks(self, joined: Tensor) -> Tensor:
        batch, out_channels = joined.shape[0], self._convolution.out_channels // self._stride
        if joined.shape[1] <= self._padding.size:
            return joined.new_empty(batch, 0, out_channels)
        return self._convolution(joined).reshape(batch, -1, out_channels)
