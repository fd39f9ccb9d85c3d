"""What each way of augmenting stored features costs, in accuracy and in bytes.

Measures: accuracy on the test set as it is and under the training's augmentation (flips, shifts by up to four pixels),
and the bytes of the stored features, for each way of going on behind a freeze. All arms of one (data, model, seed)
continue the same training, frozen at the same place after a third of the epochs; differences are taken against
conventional freezing with live augmentation, seed by seed.
On: 1,040 images of Fashion-MNIST, tested on 5,200 of its test images; as many patches of the photos that scikit-image
carries, tested on patches of other parts of these photos. A small ResNet and a small ViT.
Repeats: `--seeds`, three by default.

Records go to `--out`, one JSON object a line; what has one there under the same plan is not run again. What tables and
pictures need of them goes to `--record`, from which `--pictures` draws accuracy against bytes into a folder.

    python benchmarks/augmentation.py --jobs 2 --record benchmarks/results/augmentation.json --pictures docs
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from augment_study.arms import ARMS
from augment_study.cost import costs
from augment_study.outputs import outputs
from augment_study.results import pictures, record_of
from augment_study.runner import SUBJECTS, Plan, Study
from augment_study.subjects import DATA, KINDS


def read(out: Path) -> list[dict[str, Any]]:
    """The records of today's subjects."""
    records = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return [record for record in records if record["subjects"] == SUBJECTS]


def missing(records: list[dict[str, Any]], cell: tuple[str, str, int], arms: list[str], plan: Plan) -> list[str]:
    """The arms of a (data, model, seed) without a record under this plan."""
    done = {r["arm"] for r in records if (r["data"], r["model"], r["seed"]) == cell and r["plan"] == plan.config}
    return [arm for arm in arms if arm not in done]


def study(cell: tuple[str, str, int], arms: list[str], plan: Plan, out: Path) -> None:
    """All of a cell's arms that have no record yet, one line as soon as each is done."""
    torch.set_num_threads(1)
    todo = missing(read(out), cell, arms, plan)
    if not todo:
        return
    started = Study(*cell, plan)
    for name in todo:
        record = json.dumps(started.run(ARMS[name]))
        with out.open("a") as file:
            file.write(record + "\n")
        print(record[:230], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(DATA), action="append")
    parser.add_argument("--model", choices=list(KINDS), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", choices=list(ARMS), action="append", help="by name; default: all")
    for name, value in Plan().config.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/augmentation.jsonl"))
    parser.add_argument("--record", type=Path, help="write what the tables are made of here")
    parser.add_argument("--pictures", type=Path, help="draw accuracy against bytes into this folder")
    parser.add_argument("--note", default="", help="a sentence for the record: on what it was measured")
    parser.add_argument("--cost", action="store_true", help="measure what moving a batch of features costs, and end")
    parser.add_argument("--outputs", action="store_true", help="measure what parts of a view do to a network's outputs")
    given = parser.parse_args()
    if given.cost or given.outputs:
        torch.set_num_threads(1)
        for found in costs() if given.cost else outputs():
            print(json.dumps(found), flush=True)
        return
    plan = Plan(**{name: getattr(given, name) for name in Plan().config})
    given.out.parent.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    cells = [
        (data, model, seed)
        for seed, data, model in itertools.product(range(given.seeds), given.data or DATA, given.model or KINDS)
    ]
    arms = list(given.arm or ARMS)
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(study, cell, arms, plan, given.out) for cell in cells]:
            done.result()
    record = record_of(read(given.out), plan.config, given.note)
    if given.record is not None:
        given.record.write_text(json.dumps(record, indent=1) + "\n")
    if given.pictures is not None:
        for name, picture in pictures(record):
            (given.pictures / f"augmentation-measured-{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
