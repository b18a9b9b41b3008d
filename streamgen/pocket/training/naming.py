"""Which words of a caption name the tempo, the style and the key of a song.

Rules: knows captions and a tokenizer, no model.
"""

import torch
from torch import Tensor
from transformers import T5Tokenizer

from streamgen.pocket.training.compose import FRAMES_PER_STEP, KEY_NAMES, Song
from streamgen.pocket.training.styles import STYLES

TEMPI, TONICS, STYLE_NAMES = tuple(FRAMES_PER_STEP), tuple(KEY_NAMES), tuple(STYLES)
GROUPS = (len(TEMPI), len(STYLE_NAMES), len(TONICS))
NAMES = sum(GROUPS)


def _places(song: Song) -> tuple[int, int, int]:
    tempo, style, tonic = TEMPI.index(song.bpm), STYLE_NAMES.index(song.style), TONICS.index(song.tonic)
    return tempo, len(TEMPI) + style, len(TEMPI) + len(STYLE_NAMES) + tonic


def tokens_that_name(text: str, song: Song, tokenizer: T5Tokenizer) -> tuple[list[int], Tensor]:
    """Token ids [S] of a song's caption, and what each names, float32 [S, 21]."""
    words = text.split(" ")
    spoken = [word.strip(",").lower() for word in words]
    named = [torch.zeros(NAMES) for _ in words]
    tempo, style, tonic = _places(song)
    for place, word in enumerate(spoken):
        named[place][tempo] = word == str(song.bpm)
        named[place][tonic] = spoken[place : place + 2] == song.key.lower().split()
        for name in STYLES[song.style].names:
            length = len(name.split())
            if spoken[place : place + length] == name.split():
                for part in named[place : place + length]:
                    part[style] = 1
    ids, rows = list[int](), list[Tensor]()
    for word, names in zip(words, named, strict=True):
        for number in tokenizer(word, add_special_tokens=False)["input_ids"]:
            ids.append(number)
            rows.append(names * any(letter.isalnum() for letter in tokenizer.decode(number)))
    return [*ids, tokenizer.eos_token_id], torch.stack([*rows, torch.zeros(NAMES)])
