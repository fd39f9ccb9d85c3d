"""Measures of likeness equal plain references, and have the invariances that they are known for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hoarfrost.watching import (
    centred_gram,
    linear_cka,
    principal_directions,
    row_normalised_gram,
    similarity_loss,
    svcca,
)


def pair(seed: int, first: int = 5, second: int = 7, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, first, generator=generator)
    y = x @ torch.randn(first, second, generator=generator) + noise * torch.randn(40, second, generator=generator)
    return x, y


def cka_reference(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, section 3: from the features themselves, centred."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def svcca_reference(x: np.ndarray, y: np.ndarray, variance: float) -> float:
    """Raghu et al. 2017, section 2: singular vectors, then CCA by whitened covariances."""

    def reduced(rows: np.ndarray) -> np.ndarray:
        rows = rows - rows.mean(0)
        u, s, _ = np.linalg.svd(rows, full_matrices=False)
        kept = int(np.searchsorted(np.cumsum(s**2) / np.sum(s**2), variance)) + 1
        return np.asarray(u[:, :kept] * s[:kept])

    def inverse_root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return np.asarray(vectors @ np.diag(values**-0.5) @ vectors.T)

    a, b = reduced(x), reduced(y)
    correlations = np.linalg.svd(inverse_root(a.T @ a) @ a.T @ b @ inverse_root(b.T @ b), compute_uv=False)
    return float(correlations.mean())


def similarity_reference(a: np.ndarray, b: np.ndarray) -> float:
    """Tung and Mori 2019, equations 1 to 4."""

    def normalised(rows: np.ndarray) -> np.ndarray:
        gram = rows @ rows.T
        return np.asarray(gram / np.linalg.norm(gram, axis=1, keepdims=True))

    return float(np.linalg.norm(normalised(a) - normalised(b)) ** 2 / len(a) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_linear_cka_equals_the_reference(seed: int) -> None:
    x, y = pair(seed)
    wanted = cka_reference(x.double().numpy(), y.double().numpy())
    assert linear_cka(centred_gram(x), centred_gram(y)) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("variance", [0.7, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_svcca_equals_the_reference(seed: int, variance: float) -> None:
    x, y = pair(seed)
    found = svcca(principal_directions(x, variance), principal_directions(y, variance))
    assert found == pytest.approx(svcca_reference(x.double().numpy(), y.double().numpy(), variance), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_similarity_preserving_loss_equals_the_reference(seed: int) -> None:
    x, y = pair(seed)
    found = similarity_loss(row_normalised_gram(x), row_normalised_gram(y))
    assert found == pytest.approx(similarity_reference(x.double().numpy(), y.double().numpy()), abs=1e-6)


def test_rotations_scale_and_shifts_change_neither_cka_nor_svcca() -> None:
    x, _ = pair(0)
    turned = 3 * x @ torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0] + 2
    assert linear_cka(centred_gram(x), centred_gram(turned)) == pytest.approx(1, abs=1e-6)
    assert svcca(principal_directions(x), principal_directions(turned)) == pytest.approx(1, abs=1e-6)


def test_features_that_are_all_the_same_are_like_no_others() -> None:
    x, same = pair(0)[0], torch.ones(40, 5)
    assert linear_cka(centred_gram(x), centred_gram(same)) == 0
    assert svcca(principal_directions(x), principal_directions(same)) == 0
