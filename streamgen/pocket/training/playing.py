"""What a checkpoint plays from a caption: codes, not sound; and the settings the checkpoint is made for.

Rules: plays through streamgen itself, one stream alone, as a listener hears it; no training, no songs.
"""

from torch import Tensor

from streamgen.model import Model

GUIDANCE_SCALE, TEMPERATURE, TOP_K = 1.0, 0.45, 15  # what the exported checkpoint plays with
CHANGE_CONTEXT_SECONDS = 0.0  # of the music before, another prompt hears nothing: it would be copied


def play(model: Model, text: str, frames: int, seed: int) -> Tensor:
    """Codes int64 [K, frames] of a stream with one prompt, at the checkpoint's own settings."""
    controls = model.controls({"prompt": text, "seed": seed})
    _, rows = model.prompts.of(controls.mix, controls.guidance_scale)
    assert frames <= model.config.max_positions, "more are not remembered"
    tokens = model.open_tokens(rows, controls, total_frames=frames)
    try:
        model.engine.prefill(tokens, tokens.windows[0])
        while not tokens.finished:
            model.engine.step([tokens])
        return tokens.frames(0, frames)
    finally:
        tokens.close()
