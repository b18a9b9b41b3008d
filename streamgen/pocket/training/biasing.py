"""What can be counted of the training songs' codes: which stand on a sixteenth, belong to a key, are a style's at all.

Rules: reads tokens, writes the tables that `streamgen.checkpoint.code_bias` reads; trains nothing, knows no model.

    log of (how often a code stands in this place + n) / (how often it would if places were all the same + n)

is 0 for a code that is seldom seen, and adds to a model's logits as a second, independent witness. The model knows the
place from the music so far and is led astray by its own mistakes; counted is what no mistake can change.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from streamgen.checkpoint.code_bias import BAR, CODE_BIAS_FILE, KEY
from streamgen.pocket.training.arranging import TokenSong
from streamgen.pocket.training.compose import FRAMES_PER_STEP
from streamgen.pocket.training.quantizer import CODES

PLACE_SHRINK, KEY_SHRINK = 3.0, 50.0  # n: a key's codes come from some thirty songs that share their melodies' notes
KEY_SHARE = 0.5  # all of it costs a twentieth of the onsets their grid
NEVER = -100.0  # added to what a style's six hundred songs never play: at temperature 5 it is 20 nats away


def log_ratio(counts: Tensor, shrink: float) -> Tensor:
    """How much likelier each code is in each place than on average.

    Args:
        counts: float [M, …, V], how often each code stands in each of M places.
        shrink: counts added to what is found and to what is expected.

    Returns:
        float, as `counts`.
    """
    share = counts.sum(-1, keepdim=True) / counts.sum((0, -1), keepdim=True)
    expected = counts.sum(0, keepdim=True) * share
    return ((counts + shrink) / (expected + shrink)).log()


def count(codes: Tensor) -> Tensor:
    """How often each code is in codes [K, T]: float64 [K, V]."""
    counts = torch.zeros(len(codes), CODES, dtype=torch.float64)
    return counts.scatter_add_(1, codes.long(), torch.ones(codes.shape, dtype=torch.float64))


def place_tables(songs: Iterable[TokenSong]) -> dict[str, Tensor]:
    """For every tempo, by place in the sixteenth: float64 [P, K, V]."""
    counts: dict[int, Tensor] = {}
    for source in songs:
        steps = FRAMES_PER_STEP[source.song.bpm]
        places = torch.stack([count(source.codes[:, place::steps]) for place in range(steps)])
        counts[source.song.frames_per_bar] = counts.get(source.song.frames_per_bar, 0) + places
    return {f"{BAR}{bar}": log_ratio(found, PLACE_SHRINK) for bar, found in counts.items()}


def key_tables(songs: Iterable[TokenSong]) -> dict[str, Tensor]:
    """For every style and key, against the style's other keys, less what the style never plays: float64 [K, V].

    Two thirds of codebook 0 are never heard in an ambient. One such code is a drum, and is copied from bar to bar; of
    songs that were not counted one frame in ten thousand has one.
    """
    counts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for source in songs:
        of_style, key = counts[source.song.style], source.song.key
        of_style[key] = of_style.get(key, 0) + count(source.codes)
    tables = {}
    for style, found in counts.items():
        in_keys = torch.stack([*found.values()])
        never = NEVER * (in_keys.sum(0) == 0)
        for key, table in zip(found, log_ratio(in_keys, KEY_SHRINK), strict=True):
            tables[f"{KEY}{style}.{key}"] = KEY_SHARE * table + never
    return tables


def write_code_bias(songs: list[TokenSong], folder: Path) -> None:
    """Write the tables beside a checkpoint's weights, in float16."""
    tables = place_tables(songs) | key_tables(songs)
    save_file({name: table.half().contiguous() for name, table in tables.items()}, folder / CODE_BIAS_FILE)
