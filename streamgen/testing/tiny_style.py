"""A small random MusicGen-Style in audiocraft's format: melody's decoder, with style in the place of chroma.

Rules: what audiocraft's StyleConditioner has, under its names. The codec that hears styles lies beside it under the
name that its settings say.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from streamgen.checkpoint.write_audiocraft import write_audiocraft, write_yaml

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["write_style"]

CODEC_NAME = "encodec-tiny"
PART = "condition_provider.conditioners.self_wav."
WIDTH, LAYERS = 256, 4  # audiocraft's "xsmall"
FEATURE_CODES, FEATURE_CODEBOOKS, CODEBOOKS, CODES = 64, 3, 6, 64
SETTINGS = {
    "model_name": "encodec", "transformer_scale": "xsmall", "sample_rate": "${sample_rate}",
    "encodec_checkpoint": f"//pretrained/{CODEC_NAME}", "encodec_n_q": FEATURE_CODEBOOKS, "length": 3.0,
    "ds_factor": 15, "n_q_out": CODEBOOKS, "eval_q": 3, "q_dropout": True, "bins": CODES,
    "varying_lengths": [1.5, 4.5], "batch_norm": True, "compute_mask": True,
    "num_codebooks_lm": "${transformer_lm.n_q}", "ds_rate_compression": 640, "use_middle_of_segment": False,
    "rvq_threshold_ema_dead_code": 0.1,
}  # fmt: skip


def write_style(melody: Path, folder: Path, seed: int, text_encoder_name: str) -> None:
    """Write a style checkpoint from a melody one in transformers' format."""
    import torch
    import yaml  # type: ignore[import-untyped]

    from streamgen.checkpoint import load_checkpoint

    write_audiocraft(load_checkpoint(str(melody)), folder, text_encoder_name)
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    settings, state = yaml.safe_load(package["xp.cfg"]), package["best_state"]
    settings["conditioners"]["self_wav"] = {"model": "style", "style": SETTINGS}
    width = state[f"{PART}output_proj.weight"].shape[0]
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(PART)}
    made = {f"{PART}{name}": tensor for name, tensor in _weights(width, seed).items()}
    torch.save({**package, "best_state": kept | made, "xp.cfg": write_yaml(settings)}, folder / "state_dict.bin")
    (folder / CODEC_NAME).mkdir()
    shutil.copy(folder / "compression_state_dict.bin", folder / CODEC_NAME)


def _weights(width: int, seed: int) -> dict[str, Tensor]:
    """Tensors under StyleConditioner's names, those of its training included, as a checkpoint has them."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> Tensor:
        return torch.randn(shape, generator=generator) * std

    made = {f"embed.{k}.weight": normal(FEATURE_CODES, WIDTH, std=0.6) for k in range(FEATURE_CODEBOOKS)}
    for layer in range(LAYERS):
        made |= {f"transformer.layers.{layer}.{name}": tensor for name, tensor in _layer(generator).items()}
    made["batch_norm.running_mean"] = normal(WIDTH, std=0.3)
    made["batch_norm.running_var"] = normal(WIDTH, std=0.5).square() + 1
    made["batch_norm.num_batches_tracked"] = torch.tensor(7)
    for k in range(CODEBOOKS):
        book, table = f"rvq.vq.layers.{k}._codebook", normal(CODES, WIDTH, std=0.8 * 0.8**k)
        made |= {f"{book}.embed": table, f"{book}.embed_avg": table.clone()}
        made |= {f"{book}.inited": torch.ones(1), f"{book}.cluster_size": torch.ones(CODES)}
    made["output_proj.weight"] = normal(width, WIDTH, std=1 / math.sqrt(WIDTH))
    made["output_proj.bias"] = normal(width, std=0.3)
    return made


def _layer(generator: Generator) -> dict[str, Tensor]:
    import torch

    shapes = {"self_attn.in_proj_weight": (3 * WIDTH, WIDTH), "self_attn.out_proj.weight": (WIDTH, WIDTH),
              "linear1.weight": (4 * WIDTH, WIDTH), "linear2.weight": (WIDTH, 4 * WIDTH)}  # fmt: skip
    made = {name: torch.randn(shape, generator=generator) / math.sqrt(shape[1]) for name, shape in shapes.items()}
    for norm in ("norm1", "norm2"):
        made[f"{norm}.weight"] = 1 + 0.1 * torch.randn(WIDTH, generator=generator)
        made[f"{norm}.bias"] = 0.1 * torch.randn(WIDTH, generator=generator)
    return made
