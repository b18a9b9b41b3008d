"""What a checkpoint plays from a caption: codes, not sound; and the settings the checkpoint is made for.

Rules: plays through streamgen itself, one stream alone, as a listener hears it; no training, no songs.
"""

from torch import Tensor

from streamgen.model import Model
from streamgen.stream.batch import Batch

GUIDANCE_SCALE, TEMPERATURE, TOP_K = 1.0, 0.45, 15  # what the exported checkpoint plays with
AUDITION = 8  # openings tried where the music begins anew
CHANGE_CONTEXT_SECONDS = 0.0  # of the music before, another prompt hears nothing: it would be copied
# Guidance above 1 tears the loop apart (.99 of it kept at 1, .37 at 6), without it a negative prompt does nothing, and
# where the heavier prompt takes over in a fade the music begins anew: that is a cut.
UNSUPPORTED_CONTROLS = ("glide_seconds", "guidance_scale", "negative_prompt")


def play(model: Model, text: str, frames: int, seed: int) -> Tensor:
    """Codes int64 [K, frames] of a stream with one prompt, at the checkpoint's own settings."""
    clip = Batch(model.runtime, [text], frames / model.frame_rate_hz, seed=seed, controls={})
    return clip.codes()[0]
