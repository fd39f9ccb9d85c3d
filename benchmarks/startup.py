"""What it takes until the command answers and until the library is there.

Measures: processor seconds (user and system) of a whole process for `hoarfrost --help`, each command's `--help`, and
imports; for imports also what they take beyond `import torch, torchvision`.
On: this machine, with compiled modules in place (one run before the first that counts).
Repeats: `--repeats` (5 by default), all processes in turn in each; the median, and the smallest and largest.

    python benchmarks/startup.py --repeats 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import hoarfrost
from measuring.record import write_record

COMMANDS = (
    *("", "train", "cuts", "plan", "sensitivity", "report", "demo"),
    *("cache", "cache ls", "cache verify", "cache prune"),
)
BASE = "import torch, torchvision"
IMPORTS = ("import hoarfrost", BASE, f"{BASE}, hoarfrost", f"{BASE}, hoarfrost; hoarfrost.Freezer")


def processor_seconds(words: Sequence[str]) -> float:
    """Of a process of Python with these arguments; what it prints is dropped."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hoarfrost.__file__).parents[1])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it all of our modules are compiled in each process
    before = os.times()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, nowhere, 1)]
    process = os.posix_spawn(sys.executable, [sys.executable, *words], environment, file_actions=actions)
    _, status = os.waitpid(process, 0)
    os.close(nowhere)
    after = os.times()
    if status:
        raise SystemExit(f"python {' '.join(words)} failed")
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="of the processes, by their names in the table")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/startup.json"))
    options = parser.parse_args()
    subjects = {
        f"hoarfrost {command} --help".replace("  ", " "): ["-m", "hoarfrost", *command.split(), "--help"]
        for command in COMMANDS
    } | {text: ["-c", text] for text in IMPORTS}
    subjects = {name: words for name, words in subjects.items() if not options.only or name in options.only}
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(options.repeats + 1):
        for name, words in subjects.items():
            taken = processor_seconds(words)
            if turn:
                seconds[name].append(taken)
    print("| process | processor seconds | from | to | beyond torch and torchvision |\n|---|---|---|---|---|")
    base = statistics.median(seconds[BASE]) if BASE in seconds else None
    for name, values in seconds.items():
        median = statistics.median(values)
        beyond = f"{median - base:+.2f}" if base is not None and name in IMPORTS[2:] else ""
        print(f"| `{name}` | {median:.2f} | {min(values):.2f} | {max(values):.2f} | {beyond} |")
    write_record(options.out, options, seconds=seconds)


if __name__ == "__main__":
    main()
