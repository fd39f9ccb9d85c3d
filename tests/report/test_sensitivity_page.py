"""What was measured of channels, as tables and as a page: complete, escaped, readable without its pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_page import NASTY, outline

from hoarfrost.report import sensitivity_tables, write_sensitivity


def cut(name: str = "layer1", values: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    values = [0.4, 0.1, 0.8, 0.2] if values is None else values
    ranked = sorted(range(len(values)), key=lambda channel: -values[channel])
    return {
        "cut": name,
        "index": 1,
        "features": [len(values), 8, 8],
        "layout": "NCHW",
        "codec": "Linear(bits=4)",
        "harm": 1e-4,
        "dense_bytes_per_sample": 1024,
        "base_bytes_per_sample": 120.0,
        "border": "replicate",
        "reason": None,
        "sensitivity": values,
        "steps": {"RandomHorizontalFlip": [value / 2 for value in values], "RandomCrop": values},
        "further": [
            {"share": share, "channels": sorted(ranked[:count]), "bytes_per_sample": 30.0 * count}
            for share, count in ((0.25, 1), (0.5, 2), (1.0, len(values)))
        ],
        **changes,
    }


def whole(name: str = "pool") -> dict[str, Any]:
    """A cut where nothing can be derived."""
    further = [{"share": s, "channels": [0, 1, 2, 3], "bytes_per_sample": 120.0} for s in (0.25, 0.5, 1.0)]
    return cut(name, border=None, reason="it is a vector", sensitivity=None, steps={}, further=further)


def found(*cuts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    step = {"name": "RandomCrop", "kind": "paired", "reason": "has a form on features"}
    told = {"model": "net", "data": "toys", "samples": 64, "metric": "cosine", "tolerance": 1e-3, "seed": 0}
    return {**told, "transform": [step], "cuts": list(cuts), **changes}


def drawn(tmp_path: Path, measured: dict[str, Any]) -> str:
    path = tmp_path / "new" / "page.html"
    assert write_sensitivity(path, measured) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["page.html"]
    return path.read_text()


def pictures(page: str) -> list[str]:
    return re.findall(r"<svg viewBox.*?</svg>", page, flags=re.DOTALL)


def texts(picture: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


@pytest.fixture
def page(tmp_path: Path) -> str:
    return drawn(tmp_path, found(cut(), cut(NASTY), whole(), model=NASTY))


def test_it_is_complete_in_itself_and_escaped(page: str) -> None:
    parts = outline(page)
    assert not parts.open
    assert not {"link", "img", "script"} & set(parts.tags)
    assert all(link.startswith("#") for link in parts.links)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert "&lt;script&gt;" in page


def test_ids_do_not_meet_and_colours_are_those_of_the_page(page: str) -> None:
    ids = outline(page).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', page)) <= set(ids)
    assert len(pictures(page)) == 2
    assert not re.search(r"#0a0b\d\d|#[0-9a-f]{6}\b", "".join(pictures(page)))
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) <= set(re.findall(r"--([\w-]+):", page))


def test_the_ramp_is_defined_for_light_and_for_dark(page: str) -> None:
    for step in range(8):
        assert len(re.findall(rf"--ramp-{step}: #", page)) == 2


def test_a_bar_is_coloured_by_its_height_on_the_scale_of_all_cuts(tmp_path: Path) -> None:
    one, other = pictures(drawn(tmp_path, found(cut(values=[0.8, 0.4]), cut("layer2", values=[0.2, 0.1]))))
    assert [set(re.findall(r"--ramp-(\d)", picture)) for picture in (one, other)] == [{"4", "7"}, {"1", "2"}]


def test_every_picture_is_told_in_words(page: str) -> None:
    spoken = re.findall(r'aria-label="([^"]*)"', page)
    assert len(spoken) == 3
    assert "layer1: 10 % are above 0.680, half above 0.300, 90 % above 0.130" in spoken[0].replace(
        "Sensitivity of the 4 channels at ", ""
    )
    assert spoken[2] == "pool: Nothing can be derived: it is a vector. Every further view is stored whole."


def test_marks_name_share_and_bytes(page: str) -> None:
    named = [text for text in texts(pictures(page)[0]) if text.endswith(("%", " B"))]
    assert named == ["25 %", "30 B", "50 %", "60 B", "100 %", "120 B"]


def test_marks_without_room_have_no_name(tmp_path: Path) -> None:
    values = [1 - n / 200 for n in range(200)]
    crowded = [{"share": n / 200, "channels": list(range(n)), "bytes_per_sample": 1.0 * n} for n in range(1, 11)]
    (picture,) = pictures(drawn(tmp_path, found(cut(values=values, further=crowded))))
    assert [text for text in texts(picture) if text.endswith("%")] == ["0.5 %"]


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    assert drawn(tmp_path / "a", found(cut())) == drawn(tmp_path / "b", found(cut()))


def test_a_single_channel_that_moves_with_the_image(tmp_path: Path) -> None:
    page = drawn(tmp_path, found(cut(values=[0.0], further=[])))
    assert len(pictures(page)) == 1
    assert not outline(page).open


def test_one_line_a_cut_with_its_quantiles_and_steps() -> None:
    channels, _ = sensitivity_tables(found(cut(), whole()))
    assert channels.header == ["cut", "features", "channels", "10 %", "median", "90 %", "HorizontalFlip", "Crop"]
    assert channels.rows[0] == ["layer1", "4x8x8", "█▆▅▄▃▂▂▂", "0.680", "0.300", "0.130", "0.150", "0.300"]
    assert channels.rows[1] == ["pool", "4x8x8", "", "–", "–", "–", "–", "–"]
    assert "–: nothing can be derived, since it is a vector" in channels.note


def test_a_single_random_step_has_no_column_of_its_own() -> None:
    channels, _ = sensitivity_tables(found(cut(steps={"RandomCrop": [0.4, 0.1, 0.8, 0.2]})))
    assert channels.header[-1] == "90 %"
    assert "alone" not in channels.note


def test_bytes_at_each_share_but_where_all_channels_are_stored() -> None:
    _, stored = sensitivity_tables(found(cut(), whole()))
    assert stored.header == ["cut", "codec", "fp32", "base view", "25 %", "50 %"]
    assert stored.rows == [
        ["layer1", "Linear(bits=4)", "1.02 kB", "120 B", "30 B", "60 B"],
        ["pool", "Linear(bits=4)", "1.02 kB", "120 B", "120 B", "120 B"],
    ]
    _, alone = sensitivity_tables(found(whole()))
    assert alone.header == ["cut", "codec", "fp32", "base view"]
    assert "every further view takes as much" in alone.note


def test_small_numbers_keep_their_digits() -> None:
    channels, _ = sensitivity_tables(found(cut(values=[3e-5] * 3)))
    assert channels.rows[0][3:6] == ["3e-05"] * 3
