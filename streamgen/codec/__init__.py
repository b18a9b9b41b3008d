"""EnCodec: codes to sound piece by piece, exactly; an audio prompt to codes.

Rules: decoding is incremental, encoding is of the whole. The rooms beside this one are not known here.

    decoder.py   StreamingDecoder: codes in, final samples out
    captured.py  streams side by side, in one call; on a GPU as CUDA graphs
    absent.py    NoCodec: in its place where a checkpoint has none
    layers.py    its layers, each with its weights
    kernels.py   their matrix products, laid out for small pieces
    padding.py   which inputs a padded convolution sees, cut into pieces
    state.py     CodecState: what a stream remembers
    weights.py   tensors of both ways, by name, weight norm folded
    encoder.py   encode_audio: any audio to codes
    resample.py  any rate to any rate
"""

from __future__ import annotations

from streamgen.codec.absent import NoCodec
from streamgen.codec.decoder import StreamingDecoder
from streamgen.codec.encoder import encode, encode_audio
from streamgen.codec.kernels import Native
from streamgen.codec.resample import resample
from streamgen.codec.state import CodecCopy, CodecState

__all__ = ["CodecCopy", "CodecState", "Native", "NoCodec", "StreamingDecoder", "encode", "encode_audio", "resample"]
