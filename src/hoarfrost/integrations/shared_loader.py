"""A DataLoader as it was before Accelerate shared its batches out among several processes."""

from __future__ import annotations

from typing import Any

from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

__all__ = ["unshared"]


def unshared(loader: Any) -> Any:
    """The batches of all processes together; a loader that was not shared out, and a data set, are returned as they
    are."""
    shard = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard):
        return loader
    batches = shard.batch_sampler
    if type(batches) is BatchSampler:
        size = batches.batch_size // shard.num_processes if shard.split_batches else batches.batch_size
        batches = BatchSampler(_without_its_generator(batches.sampler, loader), size, batches.drop_last)
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        prefetch_factor=loader.prefetch_factor,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
    )


def _without_its_generator(sampler: Any, loader: DataLoader[Any]) -> Any:
    """The user's sampler: Accelerate gives it a random state of its own, so that all processes draw alike."""
    if type(sampler) not in (RandomSampler, SeedableRandomSampler):
        return sampler
    return RandomSampler(sampler.data_source, sampler.replacement, sampler._num_samples, loader.generator)
