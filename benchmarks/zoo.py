"""How well Hoarfrost divides the world's models.

Measures, for each model: whether `find_cuts` can trace it, how many cuts it finds, and in how many seconds; then, at
the cuts, whether `divide`'s two parts give what the model gives, bit for bit: outputs in eval; outputs, buffers and the
gradients of the suffix's own parameters in train with the prefix run without gradients; on the example and on a batch
of another size; with the model's state untouched. The comparison is `zoo/law.py`, not Hoarfrost's own check. And
whether a `Freezer` that is offered these cuts freezes there, stores features and trains on them (`zoo/freeze.py`).
On: torchvision's classifiers, segmentation, detection and video models, the smallest variant of each family in timm,
transformers from small configurations, and models as people write them; random weights, small inputs, nothing
downloaded. A group whose package is missing is left out.
Repeats: two of each search for cuts (the median is kept); one of each comparison, which is exact or is not.

Each model runs in a process of its own, within limits of time and memory. Records go to `--out`, one JSON object a
line; a model that has one there from the same source of Hoarfrost is not run again. `--record` keeps the newest of each
model: what `--out` holds goes before what is there. The page is written of it.

    python benchmarks/zoo.py --jobs 2 --record benchmarks/results/zoo.json --page docs/zoo.md
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hoarfrost
from zoo.catalog import GROUPS, entries, selected
from zoo.entry import Entry
from zoo.examine import Plan
from zoo.page import in_order, page, summary
from zoo.worker import examined, server

Record = dict[str, Any]


def source_digest() -> str:
    """Of the code that is tried."""
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(hoarfrost.__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "torchvision", "timm", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read(out: Path) -> dict[str, Record]:
    """The last record of each model, by `group/name`."""
    lines = out.read_text().splitlines() if out.exists() else []
    records = [json.loads(line) for line in lines if line]
    return {f"{record['group']}/{record['model']}": record for record in records}


def kept(path: Path, newer: dict[str, Record]) -> list[Record]:
    """The records that a file keeps, in their order, once these have taken the place of older ones."""
    older = json.loads(path.read_text())["models"] if path.exists() else []
    found = {f"{record['group']}/{record['model']}": record for record in older} | newer
    records = in_order(found.values())
    lines = ",\n".join(json.dumps(record) for record in records)
    path.write_text(f'{{"models": [\n{lines}\n]}}\n')
    return records


def line(record: Record) -> str:
    """One model in the terminal."""
    name = f"{record['group']}/{record['model']}"
    if record["status"] != "done":
        return f"{name}: {record['status']}: {record.get('reason', '')}"
    tried = record["tested"] + record.get("tested_of_several", 0)
    more = f" (+{record['cuts_of_several'] - record['cuts']} of several tensors)" if "cuts_of_several" in record else ""
    return (
        f"{name}: {record['cuts']} cuts{more}, {record['recommended']} recommended, {record['find_seconds']:.2f} s; "
        f"{tried} tried, {record['tested_frozen'] + record.get('tested_of_several_frozen', 0)} frozen, "
        f"{len({f['cut'] for f in record['failures']})} not perfect"
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=list(GROUPS), help="may be given more than once")
    parser.add_argument("--only", action="append", default=[], help="names, as patterns of a shell; more than once")
    parser.add_argument("--cuts", type=int, help="try so many, instead of all recommended and ten others")
    parser.add_argument("--all", action="store_true", help="try every cut")
    parser.add_argument("--again", action="store_true", help="run what has a record too")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="for one model")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="for one model, above the imported libraries")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/zoo.jsonl"))
    parser.add_argument("--record", type=Path, help="keep the newest record of each model here")
    parser.add_argument("--page", type=Path, help="write the documentation's page here")
    return parser.parse_args(arguments)


def main() -> None:
    options = parsed()
    source, known = source_digest(), read(options.out)
    waiting: list[Entry] = []
    for group in options.group or GROUPS:
        try:
            found = selected(entries(group), options.only)
        except ImportError as error:
            print(f"{group}: left out, {error}")
            continue
        fresh = {label for label, record in known.items() if record["source"] == source and not options.again}
        waiting += [entry for entry in found if entry.label not in fresh]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.cuts, options.all, options.seconds)
    context = server(sorted({entry.group for entry in waiting}))
    with ThreadPoolExecutor(options.jobs) as pool, options.out.open("a") as out:
        for record in pool.map(lambda entry: examined(context, entry, plan, options.gigabytes), waiting):
            record |= {"source": source, "versions": versions()}
            print(line(record), flush=True)
            out.write(json.dumps(record) + "\n")
            out.flush()
    newest = read(options.out)
    records = list(newest.values()) if options.record is None else kept(options.record, newest)
    print(summary(records))
    if options.page is not None:
        options.page.write_text(page(records))


if __name__ == "__main__":
    main()
