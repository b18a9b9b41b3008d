"""What a GPU is asked first: whether it plays what a CPU plays. Needs torch, transformers, sentencepiece, numpy alone.

    python -m tests.gpu_check [cuda] [MODEL]     one line for each question; exit code 1 if one is answered no

`tests/gpu.sh` asks this, then measures. Where there is pytest, `pytest -m gpu` asks more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from streamgen import Model
from streamgen.checkpoint import load_checkpoint
from streamgen.testing import tiny_checkpoint

SECONDS, PROMPTS = 14.0, ("piano", None, "rock", "techno")
POSITIONS = 300  # of a window: the second one is over, too
GREEDY: dict[str, Any] = {"temperature": 0.0, "context_seconds": 2.0, "guard": False}


def model_of(name: str, device: str, precision: str) -> Model:
    """With short windows: to see them roll over takes a CPU less time."""
    checkpoint = load_checkpoint(name)
    checkpoint.decoder = replace(checkpoint.decoder, max_positions=POSITIONS)
    return Model.from_checkpoint(checkpoint, device=device, precision=precision)


def clips_agree(device: str, name: str) -> Iterator[tuple[str, float, float]]:
    """Four clips in one batch, past two rollovers: in float32 the same codes are likeliest, but for ties."""
    found = []
    for where in ("cpu", device):
        model = model_of(name, where, "fp32")
        clips = model.generate(list(PROMPTS), SECONDS, seed=1, **GREEDY)
        found.append([torch.from_numpy(clip.samples) for clip in clips])
    for prompt, cpu, gpu in zip(PROMPTS, *found, strict=True):
        same = (cpu - gpu).abs().amax(0) < 1e-3
        yield f"{prompt}: seconds until the GPU's sound leaves the CPU's", _seconds_of(same), SECONDS


def _seconds_of(same: Tensor) -> float:
    return SECONDS if bool(same.all()) else float((~same).nonzero()[0, 0]) / len(same) * SECONDS


def sessions_agree(device: str, name: str) -> Iterator[tuple[str, float, float]]:
    """Streams that join and leave, so that passes of one to sixteen vectors are replayed: each as it is alone."""
    model = model_of(name, device, "fp32")
    alone = []
    for seed, prompt in enumerate(PROMPTS):
        with model.open_stream(prompt, seed=seed, **GREEDY) as stream:
            alone.append(torch.from_numpy(stream.read(8 * stream.sample_rate_hz).samples))
    streams, pieces, block = [], [[] for _ in PROMPTS], model.sample_rate_hz // 2  # type: ignore[var-annotated]
    for turn in range(16 + 2 * len(PROMPTS)):
        if turn % 2 == 0 and len(streams) < len(PROMPTS):
            streams.append(model.open_stream(PROMPTS[len(streams)], seed=len(streams), **GREEDY))
        wanted = {stream: block for at, stream in enumerate(streams) if len(pieces[at]) < 16}
        for stream, chunk in model.read_together(wanted).items():
            pieces[streams.index(stream)].append(torch.from_numpy(chunk.samples))
    for prompt, own, parts in zip(PROMPTS, alone, pieces, strict=True):
        together = torch.cat(parts, dim=1)
        yield f"{prompt}: largest difference of 8 s beside others", -float((own - together).abs().max()), -1e-3


def halves_are_near(device: str, name: str) -> Iterator[tuple[str, float, float]]:
    """Nats between what float16 and float32 say of the same codes."""
    exact, halves = (model_of(name, device, precision) for precision in ("fp32", "fp16"))
    codes = exact.generate(["piano"], 5.0, seed=3)[0]
    tokens = exact.prompt_codes(codes.samples, exact.sample_rate_hz)
    one, two = (model.logits(tokens, "piano").float().log_softmax(-1) for model in (exact, halves))
    yield "mean KL of fp16, nats", -float((one.exp() * (one - two)).sum(-1).mean()), -1e-2


def main(device: str = "cuda", name: str = "pocket") -> int:
    """Ask everything, of tiny checkpoints and of one."""
    wrong = 0
    for kind in (*(str(tiny_checkpoint(kind)) for kind in ("mono", "stereo")), name):
        for question in (clips_agree, sessions_agree, halves_are_near):
            for words, value, bar in question(device, kind):
                wrong += value < bar
                answer = "ok" if value >= bar else "NO"
                print(f"{answer}  {kind.rsplit('/', 1)[-1]}: {words}: {abs(value):.4g}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
