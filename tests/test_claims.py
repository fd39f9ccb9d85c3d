"""Every measured figure in README and docs is one of a record in benchmarks/results."""

from __future__ import annotations

import json

import pytest

import claims
import tables
from shared.scripts import run

PENDING = {
    "docs/augmentation-measured.md#fashion-mnist-small-vit": "benchmarks/augmentation.py, whose records were not kept",
    "docs/augmentation-measured.md#patches-of-photos-small-resnet": "likewise",
    "docs/augmentation-measured.md#patches-of-photos-small-vit": "likewise",
    "docs/benchmarks.md#first-tokens-apart": "benchmarks/first_tokens.py, of a machine with a GPU",
    "docs/guide/augmentation.md#what-we-measured": "benchmarks/augmentation.py, whose records were not kept",
    "docs/guide/cache.md#the-ladder": "benchmarks/first_tokens.py, of a machine with a GPU",
    "docs/guide/policies.md#smartfrz": "benchmarks/smartfrz.py",
    "docs/guide/samples.md#examples-measured": "benchmarks/examples.py: the row of texts",
}
"""Pages, or sections of them, whose figures no record has yet, and what they are of. Nothing may be added."""

TEXTS = {path.relative_to(claims.ROOT).as_posix(): path.read_text() for path in claims.pages()}


def test_what_has_no_record_is_known_and_becomes_less() -> None:
    places = {place for page, text in TEXTS.items() for place in claims.unmarked(page, text)}
    waiting = {known for place in places for known in (place, place.split("#")[0]) if known in PENDING}
    unknown = {place for place in places if not {place, place.split("#")[0]} & set(PENDING)}
    if unknown:
        pytest.fail(f"figures without a record: {sorted(unknown)}; scripts/claims.py says how to mark them")
    assert waiting == set(PENDING), f"strike off what has a record by now: {sorted(set(PENDING) - waiting)}"


def test_tables_are_those_of_their_records() -> None:
    assert [page for page, _, _ in tables.differing()] == [], "run python scripts/tables.py"
    run("../scripts/tables.py", "--check")


@pytest.mark.parametrize("page", TEXTS)
def test_figures_are_those_of_the_record_that_is_named(page: str) -> None:
    for block in claims.blocks(page, TEXTS[page]):
        if block.mark is not None and block.mark.endswith(".json"):
            strays = claims.astray(block, tables.numbers(block.mark))
            assert not strays, f"{block.place} says {strays}, which {block.mark} does not"


@pytest.mark.parametrize("page", TEXTS)
def test_marks_name_a_record_a_table_or_a_reason(page: str) -> None:
    for block in claims.blocks(page, TEXTS[page]):
        mark = block.mark
        assert mark is None or mark in tables.TABLES or mark.startswith("none, ") or (claims.RESULTS / mark).is_file()


def test_every_record_is_read_small_and_shown() -> None:
    marks = {block.mark for page, text in TEXTS.items() for block in claims.blocks(page, text)}
    shown = {tables.TABLES[mark][0] if mark in tables.TABLES else mark for mark in marks}
    for path in claims.RESULTS.glob("*.json"):
        assert json.loads(path.read_text())
        assert path.stat().st_size < 4e6, f"{path.name} is too large for the repository"
        assert path.name in shown, f"no page shows {path.name}"


# The rules themselves.


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("It is 1.98x faster, 3x at best.", ["1.98", "3"]),
        ("84.2 ± 0.3 % of 2,000 images, 5 times fewer bytes", ["84.2", "0.3", "5"]),
        ("24,280 images/s at 3.7 GB/s in 12 ms", ["24,280", "3.7", "12"]),
        ("a harm of 8.6e-04", ["8.6e-04"]),
        ("torch 2.11, Python 3.10.2, arXiv 2508.15033, ViT-B/16, 4 layers, `0.25`", []),
        ("| a | b |\n|---|---|\n| 12 | of 3 |\n| **1,024** | |", ["12", "1,024"]),
    ],
)
def test_a_figure_has_a_point_or_a_unit(text: str, figures: list[str]) -> None:
    (block,) = claims.blocks("page.md", text)
    assert block.figures == figures


def test_a_mark_holds_for_one_block_one_table_or_one_section() -> None:
    text = """# Top
1.1 here

<!-- figures: a.json -->
1.2 marked

1.3 no longer

<!-- table: t -->
| 1.4 |
<!-- /table -->

1.5 behind it

<!-- figures: none, all of it -->
## Settings
1.6 here

1.7 and there

```
1.8 in code
```

## After
1.9 again
"""
    assert claims.unmarked("p.md", text) == {"p.md#top": ["1.1", "1.3", "1.5"], "p.md#after": ["1.9"]}
    assert {block.mark for block in claims.blocks("p.md", text)} == {None, "a.json", "t", "none, all of it"}


@pytest.mark.parametrize(
    ("figure", "number"),
    [("1.98", 1.9751), ("24,280", 24279.96), ("45", 0.451), ("154", 154401.0), ("-2.3", -2.26), ("8.6e-04", 8.61e-4)],
)
def test_a_figure_is_a_number_rounded(figure: str, number: float) -> None:
    assert claims.rounded_to(figure, number)
    assert not claims.rounded_to(figure, number * 1.3)


def test_a_figure_that_the_record_lacks_is_found() -> None:
    (block,) = claims.blocks("p.md", "1.98 times faster, 1,250 images, 77.1 % right")
    assert claims.astray(block, [1.984, 1250]) == ["77.1"]


def test_a_table_that_was_changed_is_written_anew() -> None:
    page = "<!-- table: routing -->\n| old |\n<!-- /table -->\nrest"
    assert tables.written(page).splitlines()[1] == "| model | what | ratio | ms |"
    assert tables.written(tables.written(page)) == tables.written(page)
    with pytest.raises(KeyError, match="no table is called 'nothing': known are augmentation fashion resnet, "):
        tables.written(page.replace("routing", "nothing"))
