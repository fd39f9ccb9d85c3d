from __future__ import annotations

import torch
from torch import Tensor, nn

from hoarfrost.freezing.averages import Averages
from shared.images import batches
from shared.nets import vit
from shared.runs import adamw


def stepped(model: nn.Module, averages: Averages, steps: int) -> list[dict[str, Tensor]]:
    """Some steps of training; the weights that each was taken with."""
    optimizer = adamw(model)
    found = []
    for batch in batches(steps):
        averages.add()
        found.append({name: p.detach().clone() for name, p in model.named_parameters()})
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return found


def test_averages_are_the_mean_over_the_steps() -> None:
    model = vit()
    averages = Averages(dict(model.named_parameters()))
    stepped(model, averages, 2)
    averages.restart()
    seen = stepped(model, averages, 4)
    last = {name: p.detach().clone() for name, p in model.named_parameters()}
    names = ["class_token", "conv_proj.weight"]
    averages.put(names)
    for name, parameter in model.named_parameters():
        expected = torch.stack([weights[name] for weights in seen]).mean(0) if name in names else last[name]
        torch.testing.assert_close(parameter.detach(), expected, msg=name)


def test_what_froze_is_averaged_no_more() -> None:
    model = vit()
    averages = Averages(dict(model.named_parameters()))
    stepped(model, averages, 2)
    model.conv_proj.requires_grad_(False)
    (weights,) = stepped(model, averages, 1)
    assert not {"conv_proj.weight", "conv_proj.bias"} & averages.state_dict()["means"].keys()
    averages.put(["conv_proj.weight"])
    assert torch.equal(model.conv_proj.weight, weights["conv_proj.weight"])
