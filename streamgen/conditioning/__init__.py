"""Text states, melody chroma and prompt mixes: what the decoder is told.

Map: text.py (a text's states) · melody.py (a melody's chroma, the prefix's order) · prompt_mix.py (weights, fades) ·
rows.py (all of it as rows of the decoder).
"""

from __future__ import annotations

from streamgen.conditioning.melody import MelodyConditioner, build_prefix, check_melody
from streamgen.conditioning.prompt_mix import PromptMix, glide
from streamgen.conditioning.text import TextConditioner, check_text

__all__ = [
    "MelodyConditioner",
    "PromptMix",
    "TextConditioner",
    "build_prefix",
    "check_melody",
    "check_text",
    "glide",
]
