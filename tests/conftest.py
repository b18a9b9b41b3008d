"""What every test starts from: no network, few threads, a known seed."""

from __future__ import annotations

import os

# Before transformers is imported: a test that would reach for the Hub must fail at once, the same everywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

torch.set_num_threads(1)  # tiny models gain nothing from a second thread, and lose much where cores are shared


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start each test from the same global seed, whatever ran before it."""
    torch.manual_seed(0)
