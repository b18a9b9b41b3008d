from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.pocket.training.code_names import matched, named_after
from streamgen.pocket.training.codec import codes_to_sound, new_codec, sound_to_codes


def test_the_largest_counts_are_matched_first_and_every_number_is_given_once() -> None:
    counts = torch.tensor([[0.0, 5, 9, 0], [0, 0, 8, 7], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert matched(counts).tolist() == [2, 3, 0, 1]
    assert matched(torch.zeros(5, 5)).tolist() == [0, 1, 2, 3, 4], "what is never met keeps its number"


@pytest.mark.slow
def test_codes_that_were_shuffled_get_their_numbers_back_and_sound_the_same() -> None:
    first: Any = new_codec().eval()
    with torch.no_grad():
        for layer in first.quantizer.layers:
            layer.codebook.embed.normal_()
        shuffled = copy.deepcopy(first)
        for layer in shuffled.quantizer.layers:
            layer.codebook.embed.copy_(layer.codebook.embed[torch.randperm(1024)])
    clip = (np.random.default_rng(0).standard_normal(60 * 640) * 3000).astype(np.int16)
    named = named_after(shuffled, first, [clip])
    assert not torch.equal(sound_to_codes(shuffled, clip), sound_to_codes(first, clip))
    assert torch.equal(sound_to_codes(named, clip), sound_to_codes(first, clip))
    wanted = codes_to_sound(shuffled, sound_to_codes(shuffled, clip))
    torch.testing.assert_close(codes_to_sound(named, sound_to_codes(named, clip)), wanted)
