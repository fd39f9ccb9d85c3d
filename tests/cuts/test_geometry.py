"""Where features lie on the image: what is followed from operator to operator against what the pixels say."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn

from hoarfrost.cuts import Cut, divide, find_cut, find_cuts


def centre_of_cell(model: nn.Module, x: Tensor, cut: Cut, row: int, column: int) -> tuple[float, float]:
    """The middle of the pixels that one cell sees, by the gradient's reach."""
    prefix, _ = divide(model, cut, x, verify=False)
    prefix.eval()
    x = x.clone().requires_grad_()
    features = prefix(x)
    features = features.movedim(-1, 1) if cut.layout == "NHWC" else features
    features[0, :, row, column].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    return (rows[0] + rows[-1]).item() / 2, (columns[0] + columns[-1]).item() / 2


class Plain(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers, nn.Flatten(), nn.LazyLinear(2))


NETS = {
    "strided": lambda: Plain(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 5, 2, 2), nn.Conv2d(4, 4, 3, 1, 1)),
    "unpadded": lambda: Plain(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2, 2)),
    "patches": lambda: Plain(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 2, 2)),
    "dilated": lambda: Plain(nn.Conv2d(3, 4, 3, 1, 1, dilation=2), nn.Conv2d(4, 4, 3, 2, 2, dilation=2)),
    "grown": lambda: Plain(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 4, 3, 1, 1)),
    "rectangular": lambda: Plain(nn.Conv2d(3, 4, (3, 5), (1, 2), (1, 2)), nn.Conv2d(4, 4, (4, 2), (4, 2))),
}


@pytest.mark.parametrize("name", NETS)
def test_stride_and_offset_are_those_of_the_pixels(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETS[name](), torch.randn(2, 3, 32, 40)
    model(x)
    for cut in find_cuts(model, x)[:-1]:
        geometry = cut.geometry
        assert geometry is not None
        assert geometry.grid == cut.shape[1:]
        row, column = geometry.grid[0] // 2, geometry.grid[1] // 2
        height, width = centre_of_cell(model, x, cut, row, column)
        # An upsampled cell sees half of a coarser one, whose middle is not its own.
        slack = 0.5 if name == "grown" else 1e-6
        assert geometry.offset[0] + geometry.stride[0] * row == pytest.approx(height, abs=slack), cut.label
        assert geometry.offset[1] + geometry.stride[1] * column == pytest.approx(width, abs=slack), cut.label


def test_tokens_with_a_class_token() -> None:
    model, x = tv.VisionTransformer(48, 8, 2, 2, 16, 32), torch.randn(2, 3, 48, 48)
    geometry = find_cut(find_cuts(model, x), "encoder.layers.encoder_layer_0").geometry
    assert geometry is not None
    assert (geometry.grid, geometry.stride, geometry.offset) == ((6, 6), (8.0, 8.0), (3.5, 3.5))
    assert geometry.prefix_tokens == 1


def test_channels_last_grids_and_merged_patches() -> None:
    model = tv.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=3)
    cuts = find_cuts(model, torch.randn(2, 3, 32, 64))
    first, merged = find_cut(cuts, "features.1"), find_cut(cuts, "features.2")
    assert (first.layout, first.shape, first.channel_axis) == ("NHWC", (8, 16, 16), 3)
    assert first.geometry is not None
    assert merged.geometry is not None
    assert (first.geometry.grid, first.geometry.offset) == ((8, 16), (1.5, 1.5))
    assert (merged.geometry.grid, merged.geometry.stride, merged.geometry.offset) == ((4, 8), (8.0, 8.0), (3.5, 3.5))


def test_layouts() -> None:
    sound = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(48, 2))
    cuts = find_cuts(sound, torch.randn(2, 2, 16))
    assert [(cut.layout, cut.channel_axis) for cut in cuts] == [("NCL", 1), ("NCL", 1), ("NCL", 1)]
    assert all(cut.geometry is None for cut in cuts)
    image = find_cuts(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), torch.randn(2, 3, 4, 4))
    assert [cut.layout for cut in image] == ["NCHW"]
