"""The report: complete in itself, escaped, and content with whatever a run has recorded."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hoarfrost.errors import ArgumentError
from hoarfrost.report import Chapter, Run, Table, write_report

NASTY = '<script>alert(1)</script> $x_1$ & "quoted" \\frac'


def freeze(epoch: int, **changes: Any) -> dict[str, Any]:
    rungs = [
        {"codec": "exact", "kl": 0.0, "bytes_per_sample": 4000, "chosen": False},
        {"codec": {"name": "linear", "bits": 4}, "kl": 2e-4, "bytes_per_sample": 400, "chosen": True},
    ]
    return {
        "event": "freeze",
        "epoch": epoch,
        "depth": 1,
        "cut": f"layer1{NASTY}",
        "decision": f"cache, since {NASTY}",
        "choice": "cache",
        "prefix_seconds": 4.0,
        "read_seconds": 0.3,
        "rungs": rungs,
        "sensitivity": [0.5, 0.1, 0.9],
        "stored_channels": [[0, 2]],
        "build_seconds": 2.0,
        "cache_bytes": 4e6,
        "dense_bytes": 4e7,
        **changes,
    }


def epoch(number: int, **changes: Any) -> dict[str, Any]:
    frozen = number >= 2
    return {
        "event": "epoch",
        "epoch": number,
        "depth": int(frozen),
        "source": "cache" if frozen else "images",
        "test_accuracy": 0.5 + 0.05 * number,
        "seconds": 3.0 if frozen else 10.0,
        **changes,
    }


def run(name: str = "run") -> Run:
    start = {"event": "start", "model": NASTY, "data": "embedded", "samples": 10_000, "cuts": ["a", "b", "c"]}
    heal = {"event": "heal", "chunk": 3, "view": 1, "reason": NASTY}
    place = {"epoch": 3, "step": 0, "cut": "a", "policy": NASTY}
    decision = {"event": "decision", **place, "depth": 0, "why": "time is left"}
    thaw = {"event": "thaw", **place, "depth": 0, "before": 1}
    midway = {"event": "midway", **place, "step": 5, "depth": 2, "cut": "b"}
    stale = {"event": "stale", **place, "step": 6, "why": "sample 7 is another"}
    fault = {"event": "fault", "kind": "CacheDirectoryError", "reason": "it is gone", "instead": "computes " + NASTY}
    bad = [{"event": "bad_sample", "sample": n, "reason": f"sample {n}", "then": "skip", "count": n} for n in (1, 2)]
    end = {"event": "end", "seconds": 34.0, "test_accuracy": 0.71, "augmented_accuracy": 0.68}
    rest = [stale, fault, *bad, *bad]  # once more where the run was resumed
    return Run(
        name, [start, epoch(0), epoch(1), freeze(2), epoch(2), decision, thaw, midway, epoch(3), heal, *rest, end]
    )


class Outline(HTMLParser):
    """Tags and attributes of a page, and whether they close."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    return parser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    table = Table("In short", ["run", "accuracy"], [["a", "71.0"], [NASTY, "70.0"]], emphasis=0)
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    runs = [run("a"), run(NASTY), Run("empty")]
    assert write_report(path, title=NASTY, chapters=[Chapter(runs, [table])], notes=NASTY) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    return path.read_text()


def test_what_the_policy_did_stands_in_order(page: str) -> None:
    rows = ["time is left", "thawed, which was frozen up to a", "frozen up to b, recomputed until the epoch ends"]
    rows.append("sample 7 is another: the features up to a are built anew")
    places = [page.index(row) for row in rows]
    assert places == sorted(places)
    assert "4, behind step 5" in page


def test_what_went_wrong_is_told_with_what_was_done_instead(page: str) -> None:
    assert "<td>it is gone</td><td>computes &lt;script" in page
    assert "<td>sample 1, and 1 more</td><td>left out</td>" in page


def test_it_is_complete_in_itself(page: str) -> None:
    parts = outline(page)
    assert not parts.open
    assert "link" not in parts.tags
    assert "img" not in parts.tags
    assert all(link.startswith("#") for link in parts.links)
    assert not re.search(r"https?://|@import|url\((?!#)", page)


def test_names_are_escaped(page: str) -> None:
    assert "script" not in outline(page).tags
    assert "alert(1)" in page
    assert "&lt;script&gt;" in page


def test_ids_in_pictures_do_not_meet(page: str) -> None:
    ids = outline(page).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', page)) <= set(ids)


def test_pictures_follow_the_pages_colours(page: str) -> None:
    drawings = re.findall(r"<svg viewBox.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 8
    assert not re.search(r"#0a0b\d\d|#[0-9a-f]{6}\b", "".join(drawings))
    defined = set(re.findall(r"--([\w-]+):", page))
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) <= defined


def test_numbers_stand_to_the_right(page: str) -> None:
    assert '<td class="number">71.0</td>' in page
    assert '<tr class="emphasis"><td>a</td>' in page


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(tmp_path / "a.html", title="t", chapters=[Chapter([run()])]).read_bytes()
    assert write_report(tmp_path / "b.html", title="t", chapters=[Chapter([run()])]).read_bytes() == first


def test_the_emphasised_run_looks_alike_in_every_chapter(tmp_path: Path) -> None:
    def chapter(*names: str) -> Chapter:
        rows = [[name] for name in names]
        return Chapter([run(name) for name in names], [Table("In short", ["run"], rows, emphasis=names.index("ours"))])

    html = write_report(tmp_path / "r.html", title="t", chapters=[chapter("a", "b", "ours"), chapter("ours", "c")])
    looks = re.findall(r"border-color: var\(--series-(\d)\)\"></i>(\w+)", html.read_text())
    assert looks == [("1", "a"), ("2", "b"), ("0", "ours"), ("0", "ours"), ("1", "c")]


def test_a_single_run_leads_with_its_numbers(tmp_path: Path) -> None:
    html = write_report(tmp_path / "r.html", title="t", chapters=[Chapter([run()])]).read_text()
    facts = re.search(r'<dl class="facts">(.*?)</dl>', html, flags=re.DOTALL)
    assert facts is not None
    assert "<dd>71.0 %</dd>" in facts[1]
    assert "<dd>34.0 s</dd>" in facts[1]


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"event": "start"}],
        [epoch(0)],
        [epoch(0, test_accuracy=math.nan, seconds=None)],
        [epoch(0, test_accuracy=0.1), {"event": "freeze", "epoch": 1}, epoch(1)],
        [freeze(0, rungs=[], sensitivity=[], cache_bytes=0), epoch(0, depth=9)],
        [freeze(0, rungs=[{"codec": "half", "kl": None, "bytes_per_sample": None}]), epoch(0)],
        [freeze(0, sensitivity=[math.nan, None, 0.5]), epoch(0, source="recompute")],
        [freeze(5), epoch(0)],
        [epoch(0, test_accuracy=0.0), epoch(1, test_accuracy=1.0)],
    ],
    ids=[
        "nothing",
        "only-start",
        "one-epoch",
        "no-numbers",
        "bare-freeze",
        "no-rungs",
        "unmeasured-rung",
        "nan-sensitivity",
        "killed-after-freeze",
        "zero-to-one",
    ],
)
def test_sparse_records_are_enough(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    html = write_report(tmp_path / "r.html", title="t", chapters=[Chapter([Run("sparse", records)])]).read_text()
    assert not outline(html).open


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least one run or table"):
        write_report(tmp_path / "r.html", title="t", chapters=[Chapter([])])
    with pytest.raises(ArgumentError, match="names of their own, got a, a"):
        write_report(tmp_path / "r.html", title="t", chapters=[Chapter([run("a"), run("a")])])
    with pytest.raises(ArgumentError, match="table 't': row 0 has 1 cells, the header 2"):
        Table("t", ["a", "b"], [["1"]])
    with pytest.raises(ArgumentError, match="has 1 rows, none of number 1"):
        Table("t", ["a"], [["1"]], emphasis=1)
