"""How far outputs are from exact ones, by what they are for; and how that is told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoarfrost.codecs import Classes, Labels, OwnLoss, Task, Values, harm_of, measure_rungs, task_of
from hoarfrost.codecs.ladder import Ladder
from hoarfrost.errors import ArgumentError


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def changed(task: Task, exact: Tensor, shown: Tensor) -> float:
    rows = slice(0, len(exact))
    return task.divergence([task.observe(exact, exact, rows)], [task.observe(shown, shown, rows)])


@pytest.mark.parametrize(("shape", "axis"), [((20, 5), 1), ((20, 5, 3, 4), 1), ((20, 6, 5), -1)])
def test_classes_diverge_as_their_softmax_does_at_each_position(shape: tuple[int, ...], axis: int) -> None:
    exact, shown = noise(*shape), noise(*shape, seed=1)
    p, q = (scores.movedim(axis, -1).reshape(-1, 5).double().log_softmax(1) for scores in (exact, shown))
    expected = F.kl_div(q, p, log_target=True, reduction="batchmean")
    assert changed(Classes(axis), exact, shown) == pytest.approx(expected.item())


def test_positions_without_a_class_do_not_count() -> None:
    exact, shown = noise(8, 6, 5), noise(8, 6, 5, seed=1)
    valid = torch.arange(6).expand(8, 6) < 4
    cut_off = changed(Classes(-1), exact[:, :4], shown[:, :4])
    assert changed(Classes(-1, valid), exact, shown) == pytest.approx(cut_off)


def test_labels_diverge_as_independent_coins_do() -> None:
    exact, shown = noise(20, 3).double(), noise(20, 3, seed=1).double()
    expected = sum(
        torch.distributions.kl_divergence(*(torch.distributions.Bernoulli(logits=s[:, n]) for s in (exact, shown)))
        for n in range(3)
    )
    assert isinstance(expected, Tensor)
    assert changed(Labels(), exact, shown) == pytest.approx(expected.mean().item())


def test_values_diverge_as_gaussians_of_their_variance_do() -> None:
    scale = torch.tensor([1.0, 1000.0])
    exact = noise(50, 2) * scale
    shown = exact + 0.1 * noise(50, 2, seed=1) * scale
    gaussians = ([torch.distributions.Normal(v, exact.std(0, correction=0)) for v in (exact, shown)],)
    expected = torch.distributions.kl_divergence(*gaussians[0]).mean()
    assert changed(Values.of(exact), exact, shown) == pytest.approx(expected.item(), rel=1e-5)


def test_values_are_judged_by_what_they_leave_to_the_targets_where_that_is_less() -> None:
    exact = noise(500, 1)
    shown = exact + 0.01
    near, far = exact + 0.1 * noise(500, 1, seed=1), exact + 5 * noise(500, 1, seed=1)
    alone = changed(Values.of(exact), exact, shown)
    assert changed(Values.of(exact, near), exact, shown) == pytest.approx(100 * alone, rel=0.2)
    assert changed(Values.of(exact, far), exact, shown) == alone


def test_a_value_that_does_not_vary_does_no_harm_while_it_stays() -> None:
    exact = torch.cat([noise(50, 1), torch.full((50, 1), 7.0)], 1)
    shown = exact + torch.tensor([0.1, 0.0])
    assert changed(Values.of(exact), exact, shown) == pytest.approx(changed(Values.of(exact[:, :1]), exact, shown) / 1)


@pytest.mark.parametrize(("told", "alone"), [("classes", Classes()), ("labels", Labels())])
def test_scores_that_have_not_learned_are_judged_as_values(told: str, alone: Task) -> None:
    scores, error = noise(100, 5), 0.03 * noise(100, 5, seed=1)

    def both(scale: float) -> tuple[float, float]:
        exact, shown = scale * scores, scale * (scores + error)
        return changed(task_of(told, [exact], None), exact, shown), changed(alone, exact, shown)

    little, learned = both(0.01), both(10.0)
    assert little[0] == pytest.approx(0.03**2 / 2, rel=0.2)
    assert little[1] < little[0] / 100
    assert learned[0] == learned[1]


def test_what_is_added_to_all_scores_of_classes_does_no_harm() -> None:
    exact = noise(100, 5)
    shown = exact + noise(100, 1, seed=1)
    assert changed(task_of("classes", [exact], None), exact, shown) < 1e-9


@pytest.mark.parametrize("shift", [0.0, 100.0], ids=["as it is", "counted from elsewhere"])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_an_own_loss_is_judged_relative_to_itself(shift: float, scale: float) -> None:
    targets, suffix = noise(64, 4, seed=2), nn.Flatten()
    features = targets + 0.3 * noise(64, 4, seed=3)

    def loss(outputs: Tensor, beside: Tensor) -> Tensor:
        return scale * (F.mse_loss(outputs, beside) + shift)

    def harm(task: Task) -> float:
        return measure_rungs(suffix, features, Ladder.of(5), task=task)[0].harm

    squares = Values((targets - features).square().mean(0).double())
    assert harm(OwnLoss(loss, targets)) == pytest.approx(harm(squares), rel=0.4)


def test_a_loss_without_a_gradient_is_judged_by_its_change() -> None:
    task = OwnLoss(lambda outputs, _: (outputs > 0).float().mean())
    features = noise(64, 4)
    rung = measure_rungs(nn.Identity(), features, Ladder.of(1), task=task)[0]
    assert rung.harm > 0


@pytest.mark.parametrize(
    "task",
    [Classes(), Labels(), Values(torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64))],
    ids=lambda task: task.name,
)
def test_the_gradient_of_the_score_tells_the_divergence_of_a_small_error(task: Task) -> None:
    outputs, error = noise(400, 3), 0.02 * noise(1, 3, seed=1)
    leaf, made, squares = outputs.clone().requires_grad_(), torch.Generator().manual_seed(0), []
    for _ in range(60):
        (gradient,) = torch.autograd.grad(task.score(leaf, made, slice(0, 400)), leaf)
        squares.append((gradient * error).sum(1).square().mean())
    assert torch.stack(squares).mean().item() / 2 == pytest.approx(changed(task, outputs, outputs + error), rel=0.1)


@pytest.mark.parametrize("task", [Classes(), Labels(), Values(torch.ones(3, dtype=torch.float64))])
def test_the_score_of_many_positions_has_the_scale_of_their_mean(task: Task) -> None:
    outputs, error = noise(100, 3, 4, 5), 0.02 * noise(1, 3, 1, 1, seed=1)
    leaf, made, squares = outputs.clone().requires_grad_(), torch.Generator().manual_seed(0), []
    for _ in range(100):
        (gradient,) = torch.autograd.grad(task.score(leaf, made, slice(0, 100)), leaf)
        squares.append((gradient * error).sum((1, 2, 3)).square().mean())
    assert torch.stack(squares).mean().item() / 2 == pytest.approx(changed(task, outputs, outputs + error), rel=0.15)


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.mean()


@pytest.mark.parametrize(
    ("harm", "criterion", "expected"),
    [
        ("auto", None, "auto"),
        ("auto", nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
        ("auto", F.cross_entropy, "classes"),
        ("auto", functools.partial(F.cross_entropy, label_smoothing=0.1), "classes"),
        ("auto", nn.NLLLoss(), "classes"),
        ("auto", nn.BCEWithLogitsLoss(), "labels"),
        ("auto", F.binary_cross_entropy_with_logits, "labels"),
        ("auto", nn.MSELoss(), "values"),
        ("auto", nn.SmoothL1Loss(), "values"),
        ("auto", F.huber_loss, "values"),
        ("auto", focal, focal),
        ("labels", F.cross_entropy, "labels"),
    ],
)
def test_a_criterion_tells_the_task(harm: Any, criterion: Any, expected: Any) -> None:
    assert harm_of(harm, criterion) == expected


def test_a_criterion_is_a_function() -> None:
    with pytest.raises(ArgumentError, match="criterion must be a function of outputs and targets, not 'mse'"):
        harm_of("auto", "mse")  # type: ignore[arg-type]


CLASSES = torch.arange(12) % 4
MIXED = F.one_hot(CLASSES, 5) * 0.7 + F.one_hot(CLASSES.flip(0), 5) * 0.3
MANY = (noise(12, 5, seed=4) > 0).float()


@pytest.mark.parametrize(
    ("outputs", "targets", "expected"),
    [
        (noise(12, 5), CLASSES, "classes"),
        (noise(12, 5), MIXED, "classes"),
        (noise(12, 5, 2, 3), CLASSES[:, None, None].expand(12, 2, 3), "classes"),
        (noise(12, 5, 2, 3), torch.full((12, 2, 3), 255), "classes"),
        (noise(12, 7, 5), torch.full((12, 7), -100), "classes"),
        (noise(12, 5), MANY, "labels"),
        (noise(12, 1), MANY[:, 0], "labels"),
        (noise(12, 5), noise(12, 5), "values"),
        (noise(12, 1), CLASSES, "values"),
        (noise(12, 1), noise(12), "values"),
        (noise(12, 3), CLASSES, "values"),
        (F.normalize(noise(12, 5), dim=1), CLASSES, "values"),
        (noise(12, 5), None, "values"),
        (noise(12, 5), noise(12, 2), "values"),
        ({"loss": torch.tensor(1.0), "logits": noise(12, 5)}, CLASSES, "loss"),
        (SimpleNamespace(loss=torch.tensor(1.0), logits=noise(12, 5)), CLASSES, "loss"),
        (torch.tensor(1.0), CLASSES, "loss"),
    ],
)
def test_outputs_and_targets_tell_the_task(outputs: Any, targets: Tensor | None, expected: str) -> None:
    assert task_of("auto", [outputs], targets).name == expected


@pytest.mark.parametrize(
    ("told", "expected"), [("classes", Classes), ("labels", Labels), ("values", Values), (focal, OwnLoss)]
)
def test_what_is_told_is_taken(told: str | Callable[..., Tensor], expected: type[Task]) -> None:
    assert isinstance(task_of(told, [noise(6, 5), noise(6, 5)], CLASSES), expected)


def test_classes_are_looked_for_where_the_targets_have_none() -> None:
    tokens = task_of("auto", [noise(12, 7, 5)], torch.arange(84).reshape(12, 7) % 5 - 1)
    pixels = task_of("auto", [noise(12, 5, 7)], torch.zeros(12, 7, dtype=torch.long))
    assert isinstance(tokens, Classes)
    assert isinstance(pixels, Classes)
    assert (tokens.axis, pixels.axis) == (-1, 1)
    assert tokens.valid is not None
    assert pixels.valid is None
