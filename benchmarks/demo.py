"""The demo's two stories over several seeds: accuracy and time of each arm, as mean and spread.

Measures: what `hoarfrost demo` shows, for seeds 0 to n - 1; times as ratios within one seed, since machines are noisy.
On: the embedded Fashion-MNIST images (10,000 for training, 2,000 for testing; 2,000 for fine-tuning).
Repeats: `--seeds` (3 by default), each arm once a seed.

    python benchmarks/demo.py --seeds 3 --out runs/benchmarks/demo
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from hoarfrost.demo import Outcome, comparison, finetuning, from_scratch, run_story
from hoarfrost.report import Chapter, Table, write_report
from hoarfrost.running import describe_machine


def spread(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """`mean ± sample deviation`."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}{unit}"


def summary(title: str, by_seed: Sequence[Sequence[Outcome]]) -> Table:
    """One row an arm: accuracies, their difference to full training seed by seed, and times as ratios."""
    rows = []
    for position, outcome in enumerate(by_seed[0]):
        arms = [outcomes[position] for outcomes in by_seed]
        full = [outcomes[0] for outcomes in by_seed]

        def paired(value: Callable[[Outcome, Outcome], float], arms: list[Outcome] = arms) -> list[float]:
            return [value(arm, rival) for arm, rival in zip(arms, full, strict=True)]  # noqa: B023 (used at once)

        reached = [arm.seconds_to(rival.accuracy) for arm, rival in zip(arms, full, strict=True)]
        sooner = [rival.seconds / r for r, rival in zip(reached, full, strict=True) if r is not None]
        rows.append(
            [
                outcome.arm.name,
                "/".join(sorted({str(arm.arm.epochs) for arm in arms})),
                spread([100 * arm.accuracy for arm in arms]),
                spread([100 * arm.augmented_accuracy for arm in arms]),
                spread(paired(lambda arm, rival: 100 * (arm.accuracy - rival.accuracy))),
                spread(paired(lambda arm, rival: 100 * (arm.augmented_accuracy - rival.augmented_accuracy))),
                spread([arm.seconds for arm in arms], 1),
                spread(paired(lambda arm, rival: rival.seconds / arm.seconds)),
                f"{spread(sooner, 1)} ({len(sooner)} of {len(arms)})" if sooner else "–",
            ]
        )
    header = (
        "training",
        "epochs",
        "accuracy, %",
        "augmented, %",
        "Δ accuracy",
        "Δ augmented",
        "seconds",
        "times faster",
        "times sooner at full's accuracy",
    )
    emphasis = next(n for n, outcome in enumerate(by_seed[0]) if outcome.arm.name == "Hoarfrost")
    note = f"Mean and sample deviation over {len(by_seed)} seeds; Δ and ratios are taken seed by seed against row one."
    return Table(title, header, rows, emphasis=emphasis, note=note)


def markdown(table: Table) -> str:
    """The table for the documentation."""
    lines = [f"| {' | '.join(table.header)} |", f"|{'---|' * len(table.header)}"]
    for number, row in enumerate(table.rows):
        cells = [f"**{cell}**" if number == table.emphasis else cell for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return f"### {table.title}\n\n" + "\n".join(lines) + f"\n\n{table.note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--story", choices=["both", "scratch", "finetuning"], default="both")
    parser.add_argument("--epochs", type=int, help="of full training, instead of each story's own")
    parser.add_argument("--samples", type=int, help="training images, instead of each story's own")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/demo"))
    options = parser.parse_args()
    changed = {name: value for name in ("epochs", "samples") if (value := getattr(options, name)) is not None}
    console = Console()
    stories = {"scratch": ("Training from scratch", from_scratch), "finetuning": ("Fine-tuning", finetuning)}
    chapters = []
    for name, (title, story) in stories.items():
        if options.story not in ("both", name):
            continue
        by_seed = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            shared, arms = story(seed, **changed)
            folder = options.out / name / str(seed)
            found = run_story(f"{title}, seed {seed}", shared, arms, folder, console, shortened=name == "scratch")
            console.print(comparison(title, found).note, highlight=False)
            by_seed.append(found)
        chapters.append(Chapter([outcome.run for outcome in by_seed[0]], [summary(title, by_seed)], title))
    text = "\n".join(markdown(table) for chapter in chapters for table in chapter.tables)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "demo.md").write_text(text)
    (options.out / "machine.json").write_text(json.dumps(describe_machine()))
    write_report(options.out / "report.html", title="The demo over several seeds", chapters=chapters)
    print(text)


if __name__ == "__main__":
    main()
