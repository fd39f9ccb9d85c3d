"""Whether files from a stranger can do more than be refused: each reader on contents that somebody made up.

Measures, for each reader, how many contents it took, how many it refused by name (a `HoarfrostError`), and in how many
ways others ended: in another exception, in more than `--longest` seconds, or in more memory than `--most` bytes beyond
what the process has. Checksums are made right again behind each change, so that what lies behind them is reached.
On: small caches of each codec, a checkpoint, a training's state, a configuration, the records of a run.
Repeats: `--seconds` for each reader. The engine "atheris" is guided by coverage (the extra `fuzz`), each reader in a
process of its own; "draws" changes its seeds, and what grew from them, at random, and needs nothing.

    python benchmarks/fuzz.py --seconds 600 --engine atheris
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzz_study.mutation import mutated

GROWN = 200
"""Contents that are kept beside the seeds, to be changed further."""


def names() -> list[str]:
    from fuzz_study.readers import READERS

    return list(READERS)


@contextmanager
def limited(longest: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {longest:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, longest)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def draws(name: str, seconds: float, seed: int, longest: float, runs: int | None) -> dict[str, Any]:
    """One reader on contents that are drawn; the first find of each kind is kept."""
    from fuzz_study.readers import READERS

    draw, reader = random.Random(f"{name} {seed}"), READERS[name]()
    seeds = reader.seeds
    grown, finds = list(seeds), {}
    taken = refused = 0
    for content in seeds:
        if not reader.survives(content):
            raise SystemExit(f"{name} refuses its own seed")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and (runs is None or taken + refused + len(finds) < runs):
        content = mutated(draw.choice(grown), draw)
        try:
            with limited(longest):
                survived = reader.survives(content)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            finds.setdefault(
                kind,
                {
                    "told": str(error)[:300],
                    "content": content.decode("latin-1"),
                    "trace": traceback.format_exc()[-3000:],
                },
            )
            continue
        taken, refused = taken + survived, refused + (not survived)
        if survived and content not in grown:
            # What was taken leads further in than what was refused.
            grown.append(content)
            if len(grown) > len(seeds) + GROWN:
                grown.pop(draw.randrange(len(seeds), len(grown)))
    gc.collect()
    return {
        "reader": name,
        "engine": "draws",
        "minutes": round(seconds / 60, 2),
        "contents": taken + refused,
        "taken": taken,
        "refused": refused,
        "finds": finds,
    }


def guided(name: str, seconds: float, seed: int, longest: float) -> dict[str, Any]:
    """One reader in a process of its own, where atheris guides; it ends at the first find."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "counts.json"
        command = [sys.executable, __file__, "--atheris", name, "--seconds", str(seconds), "--seed", str(seed)]
        command += ["--longest", str(longest), "--counts", str(told)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        found = re.search(r"cov: (\d+)(?!.*cov: )", done.stderr, re.DOTALL)
        crashes = [path.read_bytes().decode("latin-1") for path in Path(folder).glob("[cto]*-*")]
        counts = json.loads(told.read_text()) if told.exists() else {"taken": 0, "refused": 0}
    finds = {crash[:80]: {"content": crash, "trace": done.stderr[-3000:]} for crash in crashes}
    if done.returncode and not finds:
        finds = {f"exit {done.returncode}": {"trace": done.stderr[-3000:]}}
    return {
        "reader": name,
        "engine": "atheris",
        "minutes": round(seconds / 60, 2),
        "coverage": int(found[1]) if found else 0,
        "contents": counts["taken"] + counts["refused"],
        **counts,
        "finds": finds,
    }


def under_atheris(name: str, seconds: float, seed: int, longest: float, counts: Path) -> None:
    """The process that `guided` starts."""
    import atheris

    with atheris.instrument_imports(include=["hoarfrost"]):
        from fuzz_study.readers import READERS

    reader = READERS[name]()
    corpus = Path("corpus")
    corpus.mkdir()
    seeds = reader.seeds
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)
    tally = {"taken": 0, "refused": 0}

    def one(content: bytes) -> None:
        tally["taken" if reader.survives(content) else "refused"] += 1
        if sum(tally.values()) % 50 == 0:
            counts.write_text(json.dumps(tally))

    def change(content: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        # Most of what covers more was refused early: what lies behind is reached from what was taken.
        content = draw.choice((content, draw.choice(seeds)))
        made = atheris.Mutate(content, most) if draw.random() < 0.3 else mutated(content, draw)
        return bytes(made)[:most]

    options = [f"-max_total_time={int(seconds)}", f"-timeout={int(longest)}", f"-seed={seed + 1}", "-max_len=60000"]
    options += ["-rss_limit_mb=6000", "-len_control=0"]
    atheris.Setup([__file__, *options, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| reader | engine | minutes | contents | taken | refused by name | otherwise |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['reader']} | {row['engine']} | {row['minutes']:g} | {row['contents']:,} | {row['taken']:,} | "
        f"{row['refused']:,} | {len(row['finds'])} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", action="append", help="only this one; may be given several times")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--runs", type=int, help="contents for each reader, where that is fewer")
    parser.add_argument("--engine", choices=("draws", "atheris"), default="draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds for one content")
    parser.add_argument("--most", type=int, default=6 << 30, help="bytes of memory for one process")
    parser.add_argument("--out", type=Path, help="records as JSON")
    parser.add_argument("--atheris", help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.engine == "atheris" and find_spec("atheris") is None:
        parser.error("--engine atheris needs pip install 'hoarfrost[fuzz]'")
    warnings.simplefilter("ignore")
    if told.atheris:
        under_atheris(told.atheris, told.seconds, told.seed, told.longest, told.counts)
        return
    rows = []
    for name in told.reader or names():
        if told.engine == "atheris":
            rows.append(guided(name, told.seconds, told.seed, told.longest))
        else:
            resource.setrlimit(resource.RLIMIT_AS, (told.most + _taken(), resource.RLIM_INFINITY))
            rows.append(draws(name, told.seconds, told.seed, told.longest, told.runs))
        if told.out:
            told.out.parent.mkdir(parents=True, exist_ok=True)
            told.out.write_text(json.dumps(rows, indent=1))
    print(table(rows))
    for row in rows:
        for kind, find in row["finds"].items():
            print(f"\n{row['reader']}: {kind}\n{find['trace']}\n{find.get('content', '')[:600]!r}")
    if any(row["finds"] for row in rows):
        raise SystemExit(1)


def _taken() -> int:
    """Bytes of address space that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
