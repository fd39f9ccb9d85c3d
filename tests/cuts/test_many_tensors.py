"""More than the features cross a cut: arguments of the model, and outputs of earlier modules."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hoarfrost.cuts import Cut, divide, find_cut, find_cuts, require_cuts
from hoarfrost.cuts.sandbox.arguments import Arguments
from hoarfrost.errors import ArgumentError, InvalidCutError, NoCutError
from shared.nets import conv_block


class Masked(nn.Module):
    """Tokens whose padding is left out of a mean, at each layer: the mask is read to the end."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(layers))
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None, labels: Tensor | None = None) -> dict[str, Tensor]:
        keep = torch.ones_like(ids).float() if mask is None or bool(mask.all()) else mask.float()
        keep = keep[..., None]
        x = self.embed(ids)
        for layer in self.layers:
            x = x + self.drop(layer(x)) * keep + (x * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True)
        output = {"logits": self.head((x * keep).mean(1))}
        if labels is not None:
            output["loss"] = F.cross_entropy(output["logits"], labels)
        return output


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = conv_block(3, 4), conv_block(4, 6), conv_block(6, 8)
        self.up2, self.up1 = conv_block(14, 6), conv_block(10, 4)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.down3(self.pool(b))
        b = self.up2(torch.cat([self.grow(c), b], 1))
        return self.out(self.up1(torch.cat([self.grow(b), a], 1)))


class Unpooled(nn.Module):
    """SegNet's way: the places of the maxima go round the middle, as integers."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.middle, self.back = (
            nn.Conv2d(3, 4, 3, 1, 1),
            nn.Conv2d(4, 4, 3, 1, 1),
            nn.Conv2d(4, 2, 3, 1, 1),
        )
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x, places = self.pool(self.front(x))
        return self.back(self.unpool(self.middle(x), places))


class Bias(nn.Module):
    """The first block makes a bias from a parameter and hands it on beside the features, as in T5."""

    class Block(nn.Module):
        def __init__(self, makes: bool) -> None:
            super().__init__()
            self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)
            self.table = nn.Parameter(torch.randn(4)) if makes else None

        def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
            bias = torch.tanh(self.table) if bias is None else bias
            return F.dropout(self.drop(self.linear(x)), 0.2, self.training) + bias, bias

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.Block(makes=n == 0) for n in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        bias = None
        for block in self.blocks:
            x, bias = block(x, bias)
        return self.head(x)


class Boxes(nn.Module):
    """A list of images comes in, as for detection models."""

    class Batch:
        def __init__(self, tensors: Tensor, sizes: list[tuple[int, int]]) -> None:
            self.tensors, self.sizes = tensors, sizes

    class Stack(nn.Module):
        def forward(self, images: list[Tensor]) -> Boxes.Batch:
            return Boxes.Batch(torch.stack(images) * 2, [(i.shape[1], i.shape[2]) for i in images])

    def __init__(self) -> None:
        super().__init__()
        self.stack = self.Stack()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1))
        self.head = nn.Linear(4, 4)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Any:
        batch = self.stack(images)
        boxes = self.head(self.body(batch.tensors).mean((2, 3)))
        scaled = [box * size[0] for box, size in zip(boxes, batch.sizes, strict=True)]
        loss = sum((box - target["box"]).square().sum() for box, target in zip(scaled, targets, strict=True))
        return loss, scaled


def tokens(rows: int = 3) -> dict[str, Tensor]:
    mask = torch.ones(rows, 5, dtype=torch.long)
    mask[0, 3:] = 0
    return {"ids": torch.randint(0, 11, (rows, 5)), "mask": mask}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    pairs = zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else zip(a, b, strict=True)
    return all(same(x, y) for x, y in pairs)


def labels(cuts: list[Cut]) -> list[str]:
    return [cut.label for cut in cuts]


# -- arguments


def test_a_mask_is_handed_on_beside_the_features() -> None:
    model, example = Masked(), tokens()
    cuts = find_cuts(model, example)
    assert labels(cuts) == ["embed"]  # each layer's own output leaves its input alive, which the sum still needs
    (mask,) = cuts[0].others
    assert (mask.source, mask.shape, mask.dtype, mask.is_argument) == ("mask", (5,), torch.int64, True)
    assert cuts[0].single
    prefix, suffix = divide(model, cuts[0], example)
    model.eval(), prefix.eval(), suffix.eval()
    features, handed = prefix(**example)
    assert handed is example["mask"]
    assert same(suffix((features, handed)), model(**example))


def test_ids_are_not_handed_on_where_nothing_needs_them() -> None:
    assert find_cuts(Masked(), {"ids": torch.randint(0, 11, (3, 5))})[0].others == ()


def test_the_suffix_follows_the_mask_of_each_batch() -> None:
    model = Masked().eval()
    prefix, suffix = divide(model, find_cuts(model, tokens())[0], tokens())
    whole = {"ids": torch.randint(0, 11, (2, 5)), "mask": torch.ones(2, 5, dtype=torch.long)}
    for example in (tokens(4), whole):  # with padding, and by the way of the model that has none
        assert same(suffix(prefix(**example)), model(**example))


def test_labels_among_the_arguments() -> None:
    example = tokens() | {"labels": torch.tensor([0, 2, 1])}
    model = Masked()
    cut = find_cuts(model, example)[0]
    assert [other.source for other in cut.others] == ["mask", "labels"]
    prefix, suffix = divide(model, cut, example)
    assert set(suffix(prefix(**example))) == {"logits", "loss"}


def test_positions_and_keywords_are_told_apart() -> None:
    model, example = Masked(), tokens()
    prefix, _ = divide(model, find_cuts(model, example)[0], example)
    with pytest.raises(ArgumentError, match="keyword argument 'mask' is missing; the suffix behind 'embed' needs it"):
        prefix(example["ids"], example["mask"])


def test_a_floating_argument_counts_as_a_tensor() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)) + context.relu())

    model, example = Late(), (torch.randn(3, 4), torch.randn(3, 4))
    with pytest.raises(NoCutError, match=r"a: .* 1 more cross it: the model's argument 2 \[2, 4\], read later in"):
        require_cuts(model, example)
    cuts = find_cuts(model, example, max_tensors=2)
    assert [(cut.label, cut.single, [o.source for o in cut.others]) for cut in cuts] == [
        ("a", False, [1]),
        ("b", False, [1]),
    ]
    prefix, suffix = divide(model, cuts[0], example)
    assert torch.equal(suffix(prefix(*example)), model(*example))


def test_an_argument_that_the_model_writes_into_is_not_handed_on() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, count: Tensor) -> Tensor:
            count.add_(1)
            return self.b(self.a(x)) * count

    with pytest.raises(NoCutError, match="a: the model writes into its argument 2 in front of it and reads it behind"):
        require_cuts(Writes(), (torch.randn(2, 4), torch.ones(2, 1, dtype=torch.long)))


def test_a_handed_argument_survives_what_the_model_writes_behind() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, count: Tensor) -> Tensor:
            x = self.b(self.a(x))
            return x * count.add_(1)

    model, x, count = Writes(), torch.randn(2, 4), torch.ones(2, 1, dtype=torch.long)
    prefix, suffix = divide(model, find_cut(find_cuts(model, (x, count)), "a"), (x, count))
    features = prefix(x, count)
    assert torch.equal(suffix(features), suffix(features))
    assert count.eq(1).all()


def test_a_list_of_images() -> None:
    model = Boxes()
    images = [torch.rand(3, 8, 8) for _ in range(3)]
    targets = [{"box": torch.rand(4)} for _ in images]
    cuts = find_cuts(model, (images, targets), max_tensors=2)
    assert labels(cuts) == ["body.0", "body.1", "body"]
    assert [(other.source, other.shape) for other in cuts[0].others] == [(1, None)]
    prefix, suffix = divide(model, cuts[1], (images, targets))
    more = [*images, torch.rand(3, 8, 8)], [*targets, {"box": torch.rand(4)}]
    assert same(suffix(prefix(*more)), model(*more))


def test_arguments_take_rows() -> None:
    arguments = Arguments.of({"x": torch.arange(6).reshape(3, 2), "scale": 2.0, "rate": torch.tensor(1.0)})
    taken = arguments.take(5)
    assert taken["x"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert (taken["scale"], taken["rate"].item(), taken.samples) == (2.0, 1.0, 5)


# -- several tensors


def test_the_skips_of_a_unet() -> None:
    model, x = UNet(), torch.randn(2, 3, 16, 16)
    few, some, all_ = (find_cuts(model, x, max_tensors=k) for k in (1, 2, 3))
    assert {"down1", "up1"} <= set(labels(few)) < set(labels(some)) < set(labels(all_))
    assert [c.source for c in find_cut(all_, "down3").others] == ["down1", "down2"]
    assert [c.shape for c in find_cut(all_, "down3").tensors] == [(8, 4, 4), (4, 16, 16), (6, 8, 8)]
    assert find_cut(all_, "down3").bytes_per_sample == 4 * (8 * 16 + 4 * 256 + 6 * 64)
    assert find_cut(some, "up2").others[0].source == "down1"


@pytest.mark.parametrize("label", ["down2", "down3.0", "down3", "up2.1", "up2"])
def test_the_law_with_several_tensors(label: str) -> None:
    model, x = UNet(), torch.randn(2, 3, 16, 16)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x, max_tensors=3), label), x)
    twin = copy.deepcopy(model)
    for part in (prefix, suffix, twin):
        part.train()
    with torch.no_grad():
        features = prefix(x)
    kept = [f.clone() for f in features]
    twin(x).square().sum().backward()
    suffix(features).square().sum().backward()
    assert same(features, kept)
    theirs = dict(twin.named_parameters())
    behind = dict(suffix.named_parameters())
    assert behind
    assert all(torch.equal(p.grad, theirs[name].grad) for name, p in behind.items())


def test_single_cuts_are_recommended_before_others() -> None:
    model, x = UNet(), torch.randn(2, 3, 16, 16)
    chosen = [cut for cut in find_cuts(model, x, max_tensors=3) if cut.recommended]
    assert [cut.label for cut in chosen if cut.single] == ["up1"]
    assert [cut.label for cut in chosen if not cut.single] == ["down2", "down3", "up2"]


def test_integers_cross_as_they_are() -> None:
    model, x = Unpooled(), torch.randn(2, 3, 8, 8)
    assert labels(find_cuts(model, x)) == ["front", "unpool"]
    cut = find_cut(find_cuts(model, x, max_tensors=2), "middle")
    assert [(c.source, c.number, c.dtype) for c in cut.others] == [("pool", 1, torch.int64)]
    prefix, suffix = divide(model, cut, x)
    assert torch.equal(suffix(prefix(x)), model(x))


def test_what_parameters_alone_decide_is_worked_out_again() -> None:
    model, x = Bias(), torch.randn(3, 4)
    cuts = find_cuts(model, x)
    assert {"blocks.0", "blocks.1", "blocks.2"} <= set(labels(cuts))
    cut = find_cut(cuts, "blocks.1")
    assert cut.shared_parameters == ("blocks.0.table",)
    prefix, suffix = divide(model, cut, x)
    with torch.no_grad():
        model.blocks[0].table.add_(1)  # the suffix sees what the parameter has become
    model.eval(), prefix.eval(), suffix.eval()
    assert torch.equal(suffix(prefix(x)), model(x))


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class TwoWays(nn.Module):
    """A module hands on two tensors; the first is read at once, the second late."""

    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Pair:
            return Pair(self.a(x), self.b(x))

    def __init__(self, glue: bool = False) -> None:
        super().__init__()
        self.fork, self.middle, self.head, self.glue = self.Fork(), nn.Linear(4, 4), nn.Linear(4, 2), glue

    def forward(self, x: Tensor) -> Tensor:
        pair = self.fork(x)
        right = pair.right * 2 if self.glue else pair.right
        return self.head(self.middle(pair.left) + right)


def test_two_outputs_of_one_module() -> None:
    model, x = TwoWays(), torch.randn(3, 4)
    assert find_cuts(model, x) == []
    cuts = find_cuts(model, x, max_tensors=2)
    fork, middle = find_cut(cuts, "fork"), find_cut(cuts, "middle")
    assert (fork.label, fork.number, fork.others[0].source, fork.others[0].number) == ("fork", 0, "fork", 1)
    assert (middle.label, middle.others[0].source, middle.others[0].number) == ("middle", "fork", 1)
    for cut in (fork, middle):
        prefix, suffix = divide(model, cut, x)
        assert torch.equal(suffix(prefix(x)), model(x))


def test_what_no_module_gives_cannot_be_handed_on() -> None:
    model, x = TwoWays(glue=True), torch.randn(3, 4)
    assert labels(find_cuts(model, x, max_tensors=5)) == ["fork.a", "fork.b", "fork"]
    cut = find_cut(find_cuts(TwoWays(), x, max_tensors=2), "middle")
    with pytest.raises(InvalidCutError, match=r"made in the model's own forward .* is nothing that a module gives"):
        divide(model, cut, x)


def test_the_suffix_says_what_it_needs() -> None:
    model, x = TwoWays(), torch.randn(3, 4)
    _, suffix = divide(model, find_cut(find_cuts(model, x, max_tensors=2), "middle"), x)
    with pytest.raises(
        ArgumentError, match=r"features of \[N, 4\], \[N, 4\] are needed at cut 'middle', not of \[3, 4\]"
    ):
        suffix(torch.zeros(3, 4))


def test_copies_of_both_parts() -> None:
    model, x = UNet().eval(), torch.randn(2, 3, 16, 16)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x, max_tensors=3), "down3"), x)
    for twin in (copy.deepcopy((prefix, suffix)), pickle.loads(pickle.dumps((prefix, suffix)))):
        assert torch.equal(twin[1](twin[0](x)), model(x))


@pytest.mark.parametrize("many", [0, -1, 1.5, "2"])
def test_a_number_of_tensors_that_is_none(many: Any) -> None:
    with pytest.raises(ArgumentError, match="max_tensors: a whole number from 1 on is needed"):
        find_cuts(UNet(), torch.randn(2, 3, 16, 16), max_tensors=many)
