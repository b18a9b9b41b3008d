from __future__ import annotations

import pytest
import torch

from streamgen.pocket.training.copy_heads import LAGS, Layout
from streamgen.pocket.training.language import cross_entropy, new_language_model


@pytest.mark.parametrize("lag", LAGS)
def test_an_untrained_model_copies_a_repeated_bar(lag: int) -> None:
    model = new_language_model(text_vocabulary=50)
    bars = torch.randint(0, 1024, (1, 4, lag)).repeat(1, 1, 5)
    ids = torch.randint(3, 50, (1, 6))
    with torch.no_grad():
        losses = cross_entropy(model, ids, torch.ones_like(ids), bars).mean(1)[0]
    assert losses[2 * lag :].mean() < 2.0 < 6.0 < losses[:lag].mean()


def test_directions_are_orthonormal_and_free_of_positions() -> None:
    layout = Layout(384)
    rows = torch.cat([layout.own.flatten(0, 1), layout.proposed.flatten(0, 1), layout.start[None]])
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0)
    positions = new_language_model(50).decoder.model.decoder.embed_positions.weights[:1503]
    assert (positions @ rows.T).abs().max() < 1.0  # a token's vector is 8 long, a position's 14
