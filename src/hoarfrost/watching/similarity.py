"""How alike two representations of the same samples are, or two sets of relations between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["centred_gram", "linear_cka", "principal_directions", "row_normalised_gram", "similarity_loss", "svcca"]


def centred_gram(features: Tensor) -> Tensor:
    """Inner products [N, N] of the samples of [N, ...], each feature's mean taken away; float64."""
    rows = features.flatten(1).double()
    rows = rows - rows.mean(0)
    return rows @ rows.T


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of two centred Gram matrices [N, N], from 0 to 1.

    Kornblith et al. 2019 (arXiv 1905.00414), equation 3 with linear kernels: it does not change under rotations and
    isotropic scaling of the features. A representation in which all samples are the same is like no other: 0.
    """
    scale = float(first.norm() * second.norm())
    return float((first * second).sum()) / scale if scale else 0.0


def principal_directions(rows: Tensor, variance: float = 0.99) -> Tensor:
    """An orthonormal basis [N, K] of the directions that explain so much of the variance of `rows` [N, D]; float64.

    Of rows that are not all finite it is one of NaN, which is like no other.
    """
    if not bool(rows.isfinite().all()):
        return rows.new_full((len(rows), 1), math.nan, dtype=torch.float64)
    centred = rows.double()
    centred = centred - centred.mean(0)
    left: Tensor
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    energy = values.square().cumsum(0)
    if not len(energy) or energy[-1] == 0:
        return left[:, :0]
    kept = int((energy < variance * energy[-1] * (1 - 1e-12)).sum()) + 1
    return left[:, :kept]


def svcca(first: Tensor, second: Tensor) -> float:
    """Mean canonical correlation of two bases from `principal_directions`, from 0 to 1.

    Raghu et al. 2017 (arXiv 1706.05806), section 2. Between orthonormal bases the canonical correlations are the
    singular values of their product. The mean is over the smaller basis: directions that the other one has more do not
    count.
    """
    count = min(first.shape[1], second.shape[1])
    if not count:
        return 0.0
    if bool(first.isnan().any() | second.isnan().any()):
        return math.nan
    return float(torch.linalg.svdvals(first.T @ second).clamp(max=1.0).sum()) / count


def row_normalised_gram(features: Tensor) -> Tensor:
    """Inner products [N, N] of the samples of [N, ...], each row of unit length; float64."""
    rows = features.flatten(1).double()
    return torch.nn.functional.normalize(rows @ rows.T, dim=1)


def similarity_loss(first: Tensor, second: Tensor) -> float:
    """The similarity-preserving loss of two row-normalised Gram matrices [N, N].

    Tung and Mori 2019 (arXiv 1907.09682), equation 4: the squared Frobenius distance over N squared.
    """
    return float((first - second).square().sum()) / len(first) ** 2
