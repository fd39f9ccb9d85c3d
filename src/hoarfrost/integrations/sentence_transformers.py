"""sentence-transformers' trainer: columns of texts, each a call of the model, fed from stored features."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..cache import hash_samples
from ..cuts import Dispatcher, dispatch
from ..errors import ArgumentError
from ..provenance import describe_object
from . import transformers as of_transformers
from .doors import needs

with needs("sentence_transformers"):
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss
    from transformers import PreTrainedModel

__all__ = ["FreezingMixin", "FreezingTrainer"]

LOADED = frozenset({"is_local", "local_files_only", "name_or_path"})
"""What a tokenizer's file says of where it came from."""


class FreezingMixin(of_transformers.FreezingMixin):
    """Stands before `sentence_transformers.SentenceTransformerTrainer`, or a subclass of it, among a class's bases.

    ```python
    class FreezingTrainer(FreezingMixin, SentenceTransformerTrainer): ...


    trainer = FreezingTrainer(model, args, train_dataset=pairs, loss=loss, freezing={"policy": "schedule"})
    trainer.train()
    ```

    All that stands at `hoarfrost.integrations.transformers.FreezingMixin` holds. Texts are tokenized for each batch as
    ever; of each column the features are stored, as long as its texts are. Cuts have the names that layers have in the
    SentenceTransformer, `0.model.encoder.layer.3` say. In one process.

    Raises:
        ArgumentError: in `train`, a loss that does more with its columns than to call the model with each; several data
            sets; a router; columns whose prompts differ, where prompts are left out of the mean.
    """

    _route: Route | None = None
    _tokens = ""
    """Digest of what makes them, as the training began."""

    def _check(self) -> None:
        super()._check()
        model, losses = self.model, self.loss if isinstance(self.loss, Mapping) else {"": self.loss}
        if not isinstance(model, SentenceTransformer) or type(model).forward is not SentenceTransformer.forward:
            raise ArgumentError(
                f"{type(model).__name__} is not called as a SentenceTransformer is, its modules one after the other on "
                "a mapping, and is not divided: leave out Hoarfrost's mixin"
            )
        # Its own method lies there behind a MatryoshkaLoss, another behind an Accelerator, which keeps that one.
        own = getattr(model.forward, "__func__", None) is SentenceTransformer.forward
        if not own and not hasattr(model, "_original_forward"):
            raise ArgumentError(
                f"{type(model).__name__}.forward is wrapped by a function, and only its modules are run behind a "
                "freeze: wrap one of them, or put a hook on the model"
            )
        if self.args.torch_compile:
            raise ArgumentError(
                "torch_compile=True compiles the whole model, of which the layers are run: leave it out"
            )
        if isinstance(self.train_dataset, Mapping):
            raise ArgumentError(
                f"train_dataset holds {len(self.train_dataset)} data sets, whose batches are put together in ways of "
                "their own, where features are stored by sample: train on one, datasets.concatenate_datasets say"
            )
        if self._stored_evaluation is not None:
            raise ArgumentError(
                f"stored_evaluation={self._stored_evaluation!r} shows samples in their own order, and losses here are "
                "of whole batches that the trainer draws: leave it out, and the whole model is evaluated on texts"
            )
        if self.args.router_mapping:
            raise ArgumentError(f"router_mapping={self.args.router_mapping!r} gives each column a model of its own")
        if self.args.world_size > 1:
            raise ArgumentError(
                f"{self.args.world_size} processes train: the losses of sentence-transformers call the wrapper around "
                "the model, which is not divided. Train in one process, or without Hoarfrost"
            )
        for loss in losses.values():
            _check_loss(loss, model)

    def _divided(self, loader: Any) -> tuple[nn.Module, dict[str, Any]]:
        columns = self._columns_in(self._batch_of_few(loader))
        self._tokens = _digest_of(self.model.processor)
        # Described by its settings: it holds the model, whose weights change while it trains.
        loader.collate_fn = _described(loader.collate_fn, self._tokens)
        # As the model itself was prepared, whose own wrapper around it a step does not pass.
        layers = self.accelerator.prepare_model(_Layers(self.model), device_placement=False, evaluation_mode=True)
        self._route = Route(self.model, layers, tuple(columns[0]))
        adapted = any(getattr(module, "peft_config", None) for module in self.model.modules())
        return layers, {**({"policy": "frozen"} if adapted else {}), "input": tuple(columns)}

    def _run_epoch(self, *args: Any, **told: Any) -> Any:
        """As ever, while texts have the tokens that they had."""
        if self._training is not None:
            self._batch_of_few(self._training)  # a tokenizer keeps how it was last called
            if _digest_of(self.model.processor) != self._tokens:
                raise ArgumentError(
                    f"{type(self.model.processor).__name__} makes other tokens than when the training began "
                    "(max_seq_length, or a token more), and features are as long as texts were then: change it between "
                    "two trainings"
                )
        return super()._run_epoch(*args, **told)

    def _why_not_fed(self, loader: Any) -> None:
        """Each column is a call of the model."""

    def _columns_in(self, batch: Mapping[str, Any]) -> list[dict[str, str]]:
        """Of each column what the model takes of it, with its key in a batch."""
        columns: list[dict[str, str]] = self.collect_features({key: key for key in batch})[0]
        if not columns:
            raise ArgumentError(f"a batch holds {', '.join(map(repr, batch))}, in which there is no column of texts")
        # Of columns `text` and `text_2` the keys of the second begin as those of the first do.
        firsts = [next(iter(column.items())) for column in columns]
        begins = [key.removesuffix(name) for name, key in firsts]
        columns = [
            {name: key for name, key in column.items() if max(filter(key.startswith, begins), key=len) == begin}
            for begin, column in zip(begins, columns, strict=True)
        ]
        if all(getattr(module, "include_prompt", True) for module in self.model.modules()):
            columns = [{name: key for name, key in each.items() if name != "prompt_length"} for each in columns]
        first = columns[0]
        for column in columns[1:]:
            apart = sorted(first.keys() ^ column.keys())
            pairs = {name: (batch[first[name]], batch[column[name]]) for name in first if name in column}
            apart += [name for name, (one, other) in pairs.items() if not isinstance(one, Tensor) and one != other]
            if apart:
                raise ArgumentError(
                    f"columns differ in {', '.join(map(repr, apart))}, beside their tokens: behind a freeze the model "
                    "goes on with the arguments that it was divided with, the same for each column"
                )
        return columns

    def _close(self) -> None:
        super()._close()
        if self._route is not None:
            self._route.close()
            self._route = None


class FreezingTrainer(FreezingMixin, SentenceTransformerTrainer):  # type: ignore[misc]
    """`sentence_transformers.SentenceTransformerTrainer` that takes `freezing={...}`: see `FreezingMixin`."""


class _Layers(nn.Module):
    """The modules of a SentenceTransformer under their own names, called with keywords, where that takes one mapping:
    keywords are what the engine follows. It gives what the modules add, the last first, by which it is judged."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        for name, module in model.named_children():
            self.add_module(name, module)
        self.training = model.training

    def forward(self, **features: Any) -> dict[str, Any]:
        made = dict(features)
        for module in self.children():
            made = module(made)
        return {name: made[name] for name in reversed(made) if made[name] is not features.get(name)}


_Layers.__name__ = SentenceTransformer.__name__  # what a message calls it


class Route:
    """Passes a SentenceTransformer's steps, and calls with features, on to its layers, which a freezer divides.

    Args:
        arguments: of a column, the main one first; its other entries are handed back as they are.
    """

    active = True

    def __init__(self, model: SentenceTransformer, layers: nn.Module, arguments: Sequence[str]) -> None:
        self._model, self._layers, self._arguments = model, layers, arguments
        # In the forward, around which hooks run, and losses put what they do to all outputs.
        self._there = dispatch(model, self, ("forward",))

    def __call__(self, dispatcher: Dispatcher, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        features = inputs[0] if len(inputs) == 1 and not keywords else None
        if not isinstance(features, Mapping) or any(name not in features for name in self._arguments):
            return dispatcher.own(*inputs, **keywords)
        main = features[self._arguments[0]]
        tokens = isinstance(main, Tensor) and not main.is_floating_point()
        if tokens and not (self._model.training and torch.is_grad_enabled()):
            return dispatcher.own(features)
        self._layers.training = self._model.training
        return {**features, **self._layers(**{name: features[name] for name in self._arguments})}

    def close(self) -> None:
        """The model's calls are its own again."""
        while self._there:
            self._there.pop().dismiss(self)


def _check_loss(loss: nn.Module, model: nn.Module) -> None:
    """Raise ArgumentError where a loss does more with its columns than to call the model with each."""
    own = set(model.modules())
    for inner in (module for module in loss.modules() if module not in own):
        name = type(inner).__name__
        if getattr(inner, "uses_gradient_cache", False):
            raise ArgumentError(
                f"{name} runs the model twice on parts of a batch, at first without gradients, and cuts the parts out "
                "of tokens: take the loss without a gradient cache, and a batch that fits"
            )
        if isinstance(inner, AdaptiveLayerLoss):
            raise ArgumentError(f"{name} needs the outputs of all layers, of which the front ones are not run")
        if isinstance(inner, SentenceTransformer | PreTrainedModel):
            raise ArgumentError(
                f"{type(loss).__name__} runs a model of its own, {name}, on the tokens, of which there are none behind "
                "a freeze"
            )


def _described(collator: Any, tokens: str) -> Callable[[list[Any]], Any]:
    """The same collator, known by its class, its settings and by what makes tokens, and not by the model."""
    held = {name: value for name, value in vars(collator).items() if not name.startswith("_") and not callable(value)}
    settings = {**describe_object(held), "tokens": tokens}

    def call(kind: type, settings: Mapping[str, Any], items: list[Any]) -> Any:
        return collator(items)

    made = partial(call, type(collator), settings)
    made.data_collator = collator  # type: ignore[attr-defined]  # whose name messages say
    return made


def _digest_of(processor: Any) -> str:
    """Of the files that it is saved in, but for where it was loaded from."""
    if not hasattr(processor, "save_pretrained"):
        raise ArgumentError(
            f"{type(processor).__name__} makes the tokens, and has no save_pretrained, by which others are told from "
            "it: train without Hoarfrost"
        )
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}  # a model of pieces, too
    for name, data in files.items():
        told = json.loads(data) if name.endswith(".json") else None
        if isinstance(told, dict):
            known = {key: value for key, value in told.items() if key not in LOADED}
            files[name] = json.dumps(known, sort_keys=True).encode()
    return hash_samples([part for file in files.items() for part in file])
