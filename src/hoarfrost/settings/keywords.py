"""What a Freezer is told, each kind of it in a setting that checks itself.

`Freezer` takes all of it as plain keywords, the command as options and in YAML, under the names of these fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ..plain_fields import check_plain_fields
from .checks import check_bytes, check_count, check_directory, check_word, is_url, parse_bytes
from .chunks import Chunks
from .flat import group, option, told_as
from .methods import METHODS
from .noise import Noise
from .over_budget import OverBudget
from .views import Views

if TYPE_CHECKING:
    from ..codecs import Ladder

__all__ = ["Freezing", "Reading", "Rendering", "Settings", "Storing"]

MODES = ("auto", "cache", "recompute")
BUILDS = ("images", "features")
STALE = ("rebuild", "error", "reuse")
HARMS = ("auto", "classes", "labels", "values")
PRECISIONS = ("bf16", "fp16")
ON_BAD_SAMPLE = ("error", "skip", "replace")
SETTLE = ("auto", "last", "statistics", "average")
"""Told by whether its weights have moved; as it is; with statistics of its last weights; the mean of its last epoch's
weights, with statistics of these."""


@dataclass(frozen=True)
class Freezing:
    """When to freeze, where, and what is done to a front before.

    Args:
        policy: a name of `hoarfrost.policies.NAMED`, a mapping {epoch: cut}, a `hoarfrost.Policy`, or a function
            TrainState -> depth.
        epochs: how many there will be. The default policy needs it, and the cost model uses it.
        settle: what the front is frozen as: its last weights, with the "statistics" of its batch norms estimated anew
            from up to 1,024 images; its "last" weights and running statistics; the "average" of its weights over
            the last epoch, with statistics of these; or "auto": "last" where none of its weights has moved since the
            first batch, "statistics" where any has.
        max_tensors: how many tensors may cross a cut, as in `find_cuts`; `batches` then gives tuples of features.
        cuts: names of layers: the only cut is the one that their outputs cross, all of them and nothing else.
        on_changed_front: what is done when somebody writes into a frozen front, a better checkpoint say: "rebuild" its
            features and say so, or "error".
        keep_frozen: whether the front stays frozen behind `close`.
        route: whether `model(x)` runs what is behind the cut for what `batches` gave, and all of it for inputs, so that
            the loop calls the model as ever.
        method: a name of `hoarfrost.settings.METHODS`: defaults of settings that belong together, of which what is told
            beside it wins. "paper": Yang et al. 2025 as their code has it (docs/guide/paper.md).

    Raises:
        ArgumentError: of the wrong kind or out of range.
    """

    policy: Any = option(
        "schedule",
        "NAME",
        "annealed, autofreeze, boosted, budget, cka, egeria, freezeout, frozen, geometric, linear, none, periodic, "
        "schedule, single-shot, single-shot-then-resume, smartfrz, stages, svcca, with settings as in budget:2x or "
        "egeria:thaw_at=none",
        typed=str,
    )
    epochs: int | None = option(None, "N", "How often every image is seen", typed=int, panel="Training", min=1)
    settle: str = option(
        "auto",
        "NAME",
        "What a front freezes as: statistics (of batch norms, estimated anew), last, average (of its last epoch's "
        "weights), or auto: last if no weight of it has moved yet, else statistics",
    )
    max_tensors: int = 1
    cuts: Any = None
    on_changed_front: str = "rebuild"
    keep_frozen: bool = False
    route: bool = False
    method: str | None = option(None, "NAME", "paper: other defaults, those of Yang et al. 2025", typed=str)

    def __post_init__(self) -> None:
        check_word("on_changed_front", self.on_changed_front, ("rebuild", "error"))
        if self.epochs is not None:
            check_count("epochs", self.epochs, "a whole number of at least 1, or None")
        check_plain_fields(self)
        check_word("settle", self.settle, SETTLE)
        if self.method is not None:
            check_word("method", self.method, tuple(METHODS))
        if isinstance(self.policy, Mapping):
            # JSON knows no whole numbers as keys.
            points = {int(key) if isinstance(key, str) and key.isdigit() else key: v for key, v in self.policy.items()}
            object.__setattr__(self, "policy", points)
        named = (self.cuts,) if isinstance(self.cuts, str) else self.cuts
        if named is not None:
            if not isinstance(named, Sequence) or not all(isinstance(name, str) for name in named):
                raise ArgumentError(f"cuts must be the name of a layer, or several, not {self.cuts!r}")
            object.__setattr__(self, "cuts", tuple(named))
            if self.max_tensors != 1:
                raise ArgumentError(f"cuts name what crosses, so max_tensors={self.max_tensors!r} has no say: leave it")

    @property
    def one_tensor(self) -> bool:
        """Whether a single tensor crosses each of the cuts."""
        return self.max_tensors == 1 and self.cuts is None


@dataclass(frozen=True)
class Storing:
    """What is stored, where, and what it may do and take.

    Args:
        views: stored renditions of each sample, a number, "auto" or `hoarfrost.Views`, whose `count` explains it.
        ladder: codecs from gentle to strong: "auto" (the strongest that does no measured harm), another name, a
            codec, or a number of bits; see `hoarfrost.codecs.Ladder`.
        mode: "auto" measures and takes the cheaper; "cache" and "recompute" force it.
        tolerance: harm that the ladder's rung may do, in nats.
        harm: what it is measured on: "classes" (the KL divergence of the outputs' softmax), "labels" (of the sigmoid of
            each), "values" (the squared error of each output, relative to its variance), or a loss, a function
            (outputs, targets) -> loss; "auto" takes what the loss or the targets tell. See `hoarfrost.codecs.Task`.
        cache_dir: where features are stored. None: a temporary directory, removed by `close`. A URL of fsspec
            ("s3://bucket/caches"): finished caches are published there, and fetched from there by other runs.
        local_dir: where what lies at a URL is kept on this machine, and built; None: in the user's cache folder.
        local_budget: bytes of it that may be kept there, or a size in words. Caches that nobody reads make room, the
            one that was read longest ago first; chunks of which there is no room are fetched in each epoch. None: all
            is kept.
        disk_budget: bytes that the stored features may take, or a size in words: "500MB", "2GiB".
        over_budget: what to do, in this order, where that is too little: "views" (store fewer), "rung" (compress
            beyond the tolerance), "cut" (freeze up to a deeper recommended cut) and "recompute", which is also the end
            of every order.
        build_from: what the cache of a deeper cut is made from: "images", or the stored "features" of the cut before,
            which takes less time and keeps what their codec has done; that is measured, and where both together go
            beyond twice the tolerance images are taken.
        stale: what is done where `cache_dir` holds the features that are wanted, but made from something else than what
            is there now: other images, a model or transform whose code or settings were edited. "rebuild" them beside
            the old ones and say why, raise an "error" that names what differs, or "reuse" them all the same.

    Raises:
        ArgumentError: of the wrong kind or out of range.
        CodecError: no codec has so many bits.
    """

    views: Views = option("auto", "N", "Stored random renditions of each image: a number, or auto", typed=str)
    ladder: Any = option("auto", "NAME|BITS", "auto, exact, half, zfp, zfp:TOLERANCE, or a number of bits", typed=str)
    mode: str = option("auto", "NAME", "auto (the cheaper), cache or recompute")
    tolerance: float = option(1e-3, "X", "Harm that compression may do, nats")
    harm: Any = option("auto", "NAME", "What the outputs are: auto, classes, labels or values", typed=str)
    cache_dir: Path | str | None = option(
        None, "DIR|URL", "Where features are stored and kept, a directory or fsspec's URL; default: in --out", typed=str
    )
    local_dir: Path | None = option(
        None, "DIR", "Where what lies at a URL is kept here; default: in the user's cache folder", typed=Path
    )
    local_budget: int | None = option(None, "SIZE", "Most of what lies at a URL to keep here: 500MB", typed=str)
    disk_budget: int | None = option(None, "SIZE", "Most that they may take: 500MB, 2GiB", typed=str)
    over_budget: OverBudget = option(
        "views,recompute", "WAY,...", "What to give up for it: views, rung, cut, recompute", typed=str
    )
    build_from: str = option("images", "NAME", "A deeper cut's cache from images, or the earlier features")
    stale: str = option("rebuild", "NAME", "Stored features made from something else: rebuild, error or reuse")

    def __post_init__(self) -> None:
        put = object.__setattr__
        check_word("mode", self.mode, MODES)
        check_word("build_from", self.build_from, BUILDS)
        check_word("stale", self.stale, STALE)
        if not callable(self.harm):
            check_word("harm", self.harm, HARMS)
        for name in ("disk_budget", "local_budget"):
            if isinstance(getattr(self, name), str):
                put(self, name, parse_bytes(getattr(self, name)))
        check_plain_fields(self)
        for name in ("disk_budget", "local_budget"):
            check_bytes(name, getattr(self, name))
        put(self, "views", Views.of(self.views))
        put(self, "over_budget", OverBudget.of(self.over_budget))
        for name in ("cache_dir", "local_dir"):
            told = getattr(self, name)
            if not isinstance(told, str | PathLike | None) or (name == "local_dir" and is_url(told)):
                raise ArgumentError(f"{name} must be a directory's name, or None, not {told!r}")
            if told is not None and not is_url(told):
                check_directory(name, told)
                put(self, name, Path(told))
        here = None if self.cache_dir is None else str(self.cache_dir)
        if self.local_dir is not None and self.url is None:
            raise ArgumentError(
                f"local_dir={str(self.local_dir)!r} is for what lies at a URL, but cache_dir is {here!r}; name the "
                "directory as cache_dir"
            )
        if self.local_budget is not None and self.url is None:
            raise ArgumentError(
                f"local_budget={self.local_budget:,} is for what lies at a URL, but cache_dir is {here!r}; what a run "
                "stores in a directory is bounded by disk_budget"
            )
        put(self, "ladder", _known_codecs(self.ladder))
        if self.ladder != "auto":
            self.rungs  # noqa: B018 (what is no ladder is refused now)

    @property
    def url(self) -> str | None:
        """`cache_dir` where it is a URL."""
        return self.cache_dir if isinstance(self.cache_dir, str) else None

    @property
    def rungs(self) -> Ladder:
        """The ladder as it was told."""
        from ..codecs import Ladder

        return Ladder.of(self.ladder)


@dataclass(frozen=True)
class Reading:
    """How samples become batches.

    Args:
        batch_size: samples a batch; a larger number than the data set has gives one batch an epoch.
        window: chunks whose samples are mixed by the shuffle; 0 shuffles chunks alone, so many at a time as make a
            batch.
        chunks: samples that are stored and read together, a number or `hoarfrost.Chunks`.
        noise: what is added to features behind a freeze, a standard deviation or `hoarfrost.Noise`; where features are
            recomputed too, but not in the rest of an epoch within which something froze.
        memory_budget: bytes of stored features that are kept in memory once they were read, so that later epochs need
            not read them; 0 keeps none. Beside it an epoch holds two windows of the shuffle.

    Raises:
        ArgumentError: of the wrong kind or out of range.
    """

    batch_size: int = option(MISSING, "N", "Images a step", panel="Training", min=1)
    window: int = option(16, "N", "Chunks of images that the shuffle mixes; 0: none")
    chunks: Chunks = option(64, "N", "Images that are stored and read together", typed=int, min=1)
    noise: Noise = option(0.0, "X", "Standard deviation of the noise on features behind a freeze", typed=float)
    memory_budget: int = 256 << 20

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size, "a whole number of at least 1")
        check_plain_fields(self)
        object.__setattr__(self, "chunks", Chunks.of(self.chunks))
        object.__setattr__(self, "noise", Noise.of(self.noise))
        if self.window < 0:
            raise ArgumentError(f"window must be at least 1 chunk, or 0, not {self.window!r}")
        check_bytes("memory_budget", self.memory_budget)


@dataclass(frozen=True)
class Rendering:
    """How images are made, and where they go.

    Args:
        seed: of orders and renditions.
        device: where the model is; None: where its parameters are.
        workers: processes that read and render images ahead.
        channels_last: hand images to the model in that memory format (faster convolutions on most devices).
        precision: "bf16" or "fp16": the front and `freezer(...)` run under that autocast; `freezer.autocast()` is the
            same for the loss. None: under the autocast that the loop has around its own calls, or without one.
        on_bad_sample: what is done about a sample that cannot be read (a picture that is cut short, vanished, a
            decompression bomb): "error" names it, "skip" leaves it out of its batches, "replace" puts the next one
            that can be read in its place. The last two say so, and count.

    Raises:
        ArgumentError: of the wrong kind.
    """

    seed: int = option(0, "N", "Of weights, orders and renditions", panel="Run")
    device: str | None = option(None, "NAME", "cpu, cuda, ...; default: a GPU if there is one", panel="Run", typed=str)
    workers: int = option(0, "N", "Processes that read images", panel="Run", min=0)
    channels_last: bool = option(
        False, None, "Memory format of images", flag="--channels-last/--channels-first", panel="Run"
    )
    precision: str | None = option(None, "NAME", "Autocast to bf16 or fp16; default: none", panel="Run", typed=str)
    on_bad_sample: str = option("error", "NAME", "Image that cannot be read: error, skip or replace", panel="Run")

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ArgumentError(f"seed must be a whole number, not {self.seed!r}")
        if self.precision is not None:
            check_word("precision", self.precision, PRECISIONS)
        check_word("on_bad_sample", self.on_bad_sample, ON_BAD_SAMPLE)
        object.__setattr__(self, "device", None if self.device is None else str(self.device))
        check_plain_fields(self)


@dataclass(frozen=True)
class Settings:
    """All that a `Freezer` is told beside its model, data, optimizer and transforms."""

    freezing: Freezing = group(Freezing)
    storing: Storing = group(Storing)
    reading: Reading = group(Reading)
    rendering: Rendering = group(Rendering)

    @property
    def deciding(self) -> dict[str, Any]:
        """Those by which a training decides, as JSON gives them back."""
        freezing, storing = self.freezing, self.storing
        told = {name: getattr(freezing, name) for name in ("policy", "settle", "cuts", "max_tensors")}
        told |= {n: getattr(storing, n) for n in ("mode", "views", "ladder", "tolerance", "harm", "build_from")}
        told |= {name: getattr(self.reading, name) for name in ("chunks", "noise")}
        return {name: told_as(value) for name, value in told.items()}


def _known_codecs(told: Any) -> Any:
    """A ladder as it was told, codecs that went through JSON made anew."""
    if isinstance(told, Mapping):
        from ..codecs import codec_from_config

        return codec_from_config(told)
    return [_known_codecs(rung) for rung in told] if isinstance(told, list | tuple) else told
