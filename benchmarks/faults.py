"""What becomes of a training that something breaks: does it end as the undisturbed one does, or say why not?

Measures, for each kind of fault, how many trainings were broken and how each of them ended. Kinds:

- kill: SIGKILL at an operation on a file of the run (opening, writing, flushing, renaming, removing), or at a random
  moment; some of the resumed runs are killed once more. The run is resumed until it ends, and compared bit by bit
  with the undisturbed one: losses, final weights, what was frozen when, how it was stored. Where seconds decide, what
  the last checkpoint had decided is compared.

On: a convolutional network and 96 random images of 12 pixels; policies, modes, views, intervals of checkpoints and
doors as the table lists them. One thread; each life is a process of its own, forked from one that has imported all.
Repeats: `--count` faults, spread over the subjects; the seed draws where they strike.

    python benchmarks/faults.py --kind kill --count 300
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fault_study import kills

Record = dict[str, Any]

KINDS: dict[str, Callable[[int, int, str, int], Record]] = {"kill": kills.study}
"""Each takes the number of faults, the seed, a part of the subjects' names, the number of processes; its record
has `rows` for the table."""


def table(rows: list[Record]) -> str:
    """Rows of one kind, as Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(KINDS), default="kill")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="subjects whose name has this, or one of a|b, in it")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "faults.json")
    told = parser.parse_args()
    found = json.loads(told.out.read_text()) if told.out.exists() else {}
    found[told.kind] = KINDS[told.kind](told.count, told.seed, told.only, told.jobs)
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found[told.kind]["rows"]))


if __name__ == "__main__":
    main()
