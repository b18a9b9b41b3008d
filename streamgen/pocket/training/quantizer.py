"""A residual vector quantizer that can be trained; transformers' own can only be used.

Rules: knows vectors, no sound. Training writes the codebooks found here into the model's buffers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODEBOOKS, CODES = 4, 1024


class ResidualQuantizer(nn.Module):
    """Residual vector quantizer: codebooks follow their vectors by moving averages, gradients pass straight through."""

    decay: float = 0.96
    dead_below: float = 0.03

    def __init__(self, dim: int = 64) -> None:
        """Start empty; `restart` fills the codebooks."""
        super().__init__()
        self.books = nn.Buffer(torch.zeros(CODEBOOKS, CODES, dim))
        self.sums = nn.Buffer(torch.zeros(CODEBOOKS, CODES, dim))
        self.counts = nn.Buffer(torch.ones(CODEBOOKS, CODES))

    @torch.no_grad()
    def restart(self, latents: Tensor) -> None:
        """Fill every codebook by k-means on what the ones before it leave of `latents` [N, D]."""
        residual = latents
        for level in range(CODEBOOKS):
            book = residual[torch.randperm(len(residual))[:CODES]].clone()
            for _ in range(8):
                index = nearest(residual, book)
                counts = torch.bincount(index, minlength=CODES)[:, None]
                means = torch.zeros_like(book).index_add_(0, index, residual) / counts.clamp(min=1)
                spare = residual[torch.randint(len(residual), (CODES,))]
                book = torch.where(counts > 0, means, spare)
            self.books[level], self.sums[level] = book, book
            residual = residual - book[nearest(residual, book)]
        self.counts.fill_(1.0)

    def forward(self, latents: Tensor, depth: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
        """Quantize.

        Args:
            latents: float32 [B, T, D].
            depth: int64 [B], how many codebooks each row uses; 0 leaves it unquantized.
            learn: whether codebooks follow this batch.

        Returns:
            quantized [B, T, D], with straight-through gradients; commitment loss, a scalar.
        """
        residual, total, loss = latents, torch.zeros_like(latents), latents.new_zeros(())
        for level in range(CODEBOOKS):
            flat = residual.detach().reshape(-1, residual.shape[-1])
            index = nearest(flat, self.books[level])
            chosen = self.books[level][index].view_as(residual)
            used = (depth > level)[:, None, None].to(latents.dtype)
            loss = loss + F.mse_loss(residual, chosen)
            total, residual = total + chosen * used, residual - chosen
            if learn:
                self._follow(level, flat, index)
        straight = latents + (total - latents).detach()
        return torch.where((depth > 0)[:, None, None], straight, latents), loss

    @torch.no_grad()
    def _follow(self, level: int, vectors: Tensor, index: Tensor) -> None:
        counts = torch.bincount(index, minlength=CODES).to(vectors.dtype)
        self.counts[level].lerp_(counts, 1 - self.decay)
        self.sums[level].lerp_(torch.zeros_like(self.sums[level]).index_add_(0, index, vectors), 1 - self.decay)
        dead = self.counts[level] < self.dead_below
        spare = vectors[torch.randint(len(vectors), (int(dead.sum()),))]
        self.sums[level][dead], self.counts[level][dead] = spare, 1.0
        self.books[level] = self.sums[level] / self.counts[level].clamp(min=1e-5)[:, None]


def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Index [N] of the code nearest to each vector [N, D]."""
    return torch.addmm(book.pow(2).sum(1)[None], vectors, book.t(), beta=1, alpha=-2).argmin(1)
