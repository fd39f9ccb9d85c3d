"""The cut that the outputs of several named layers cross."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from hoarfrost.cuts import cut_behind, divide
from hoarfrost.errors import ArgumentError, InvalidCutError, UnknownCutError


class Blocks(nn.Module):
    """Residual blocks over tokens; gives what some of them give, or all."""

    def __init__(self, shown: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.embed, self.shown = nn.Linear(4, 8), shown
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(4)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        x, found = self.embed(x), []
        for number, block in enumerate(self.blocks):
            x = block(x, src_key_padding_mask=mask)
            if number in self.shown:
                found.append(x)
        return found


class Headed(nn.Module):
    """A head over the layers of these places in what the backbone gives."""

    def __init__(self, backbone: nn.Module, places: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone, self.places, self.head = backbone, places, nn.Linear(8 * len(places), 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        found = self.backbone(x, mask)
        return self.head(torch.cat([found[place] for place in self.places], -1).mean(1))


def tokens() -> Tensor:
    return torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))


LAYERS = ("backbone.blocks.0", "backbone.blocks.1", "backbone.blocks.3")


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (Headed(Blocks((0, 1, 3)), (0, 1, 2)), "backbone.blocks.3"),
        # The third block's output lies in the list, though the head does not take it: it is let go with the list.
        (Headed(Blocks(), (0, 1, 3)), "backbone"),
    ],
    ids=["those of the list", "some of the list"],
)
def test_three_layers_cross(model: nn.Module, place: str) -> None:
    cut = cut_behind(model, tokens(), LAYERS)
    assert (len(cut.tensors), cut.label, cut.index, cut.recommended) == (3, place, 0, True)
    assert LAYERS[-1] in (cut.label, *cut.aliases)
    prefix, suffix = divide(model, cut, tokens())
    assert torch.equal(suffix(prefix(tokens())), model(tokens()))
    given = dict(zip((crossing.number for crossing in cut.tensors), prefix(tokens()), strict=True))
    expected = model.backbone(tokens())
    assert all(any(torch.equal(tensor, layer) for layer in expected) for tensor in given.values())


def test_all_that_one_module_gives() -> None:
    cut = cut_behind(Headed(Blocks(), (1, 3)), tokens(), "backbone")
    assert {crossing.number for crossing in cut.tensors} == {1, 3}


def test_a_mask_may_cross_beside_them() -> None:
    model, mask = Masked(), torch.zeros(3, 5, dtype=torch.bool)
    cut = cut_behind(model, (tokens(), mask), ("blocks.0", "blocks.1"))
    assert [crossing.is_argument for crossing in cut.tensors] == [False, False, True]


class Masked(Blocks):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        x = self.embed(x)
        first = self.blocks[0](x, src_key_padding_mask=mask)
        second = self.blocks[1](first, src_key_padding_mask=mask)
        return [self.blocks[2](first + second, src_key_padding_mask=mask)]


def test_an_unknown_layer_is_refused_with_the_near_ones() -> None:
    with pytest.raises(UnknownCutError, match=r"'backbone.block.3' is no module of it in Headed; near it: backbone.bl"):
        cut_behind(Headed(Blocks(), (0, 1)), tokens(), ("backbone.blocks.0", "backbone.block.3"))


def test_what_else_crosses_is_named() -> None:
    model = Headed(Blocks((0, 1, 3)), (0, 1, 2))
    with pytest.raises(InvalidCutError, match=r"needs what 'backbone.blocks.1' gives \[5, 8\] too; name it as well"):
        cut_behind(model, tokens(), (LAYERS[0], LAYERS[2]))


def test_a_layer_that_nothing_reads_later_is_refused() -> None:
    with pytest.raises(
        InvalidCutError, match=r"nothing reads what 'backbone.blocks.0' gives behind 'backbone.blocks.2'"
    ):
        cut_behind(Headed(Blocks((2, 3)), (0, 1)), tokens(), ("backbone.blocks.0", "backbone.blocks.2"))


def test_layers_behind_which_nothing_trains_are_refused() -> None:
    way_out = r"no parameter is read behind it .*; make one model of it .*torch.nn.Sequential\(model, head\)"
    with pytest.raises(InvalidCutError, match=way_out):
        cut_behind(Blocks(), tokens(), ("blocks.0", "blocks.1", "blocks.2", "blocks.3"))


@pytest.mark.parametrize("layers", [(), ("blocks.0", "blocks.0"), (3,)], ids=["none", "one twice", "a number"])
def test_what_names_no_layers_is_refused(layers: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match="layers must be names of modules, each once"):
        cut_behind(Blocks(), tokens(), layers)


def test_a_traced_extractor_of_features_is_taken_by_what_it_gives() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = nn.Linear(6, 4)

        def forward(self, layers: dict[str, Tensor]) -> Tensor:
            return layers["shallow"] + self.deep(layers["deep"])

    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shallow, self.middle, self.deep = nn.Linear(4, 4), nn.Linear(4, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.deep(self.middle(self.shallow(x)).relu())

    extractor = create_feature_extractor(Convolutions(), ["shallow", "deep"])
    model = nn.Sequential(extractor, Summed())
    cut = cut_behind(model, tokens(), "0")
    assert {crossing.shape for crossing in cut.tensors} == {(5, 4), (5, 6)}
    prefix, suffix = divide(model, cut, tokens())
    assert torch.equal(suffix(prefix(tokens())), model(tokens()))
