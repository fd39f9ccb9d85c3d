"""What the command and the library import before there is work for it: modules are watched, seconds are not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hoarfrost.cli import app
from hoarfrost.policies import NAMED

HEAVY = ("torch", "torchvision", "numpy", "accelerate", "matplotlib", "jinja2")
NOT_FOR_A_LOOP = (
    *("accelerate", "lightning", "pytorch_lightning", "timm", "transformers", "tensorboard", "kornia"),
    *("matplotlib", "jinja2", "rich", "typer", "yaml", "fsspec", "pandas", "scipy", "sklearn", "skimage"),
)

HELPED = """
import json, sys
from typer.testing import CliRunner
from hoarfrost.cli import app
found = {}
for words in ([], ["train"], ["cuts"], ["plan"], ["sensitivity"], ["report"], ["demo"],
              ["cache"], ["cache", "ls"], ["cache", "verify"], ["cache", "prune"]):
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    found[" ".join(words)] = sorted({name.split(".")[0] for name in sys.modules})
refused = CliRunner().invoke(app, ["train", "--lr", "0"])
assert refused.exit_code == 2
found["train --lr 0"] = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps(found))
"""

IMPORTED = """
import json, sys
import hoarfrost
before = sorted({name.split(".")[0] for name in sys.modules})
hoarfrost.Freezer
print(json.dumps([before, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def answer(program: str) -> object:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_and_a_refusal_come_without_torch() -> None:
    found = answer(HELPED)
    assert isinstance(found, dict)
    for words, modules in found.items():
        assert not set(HEAVY) & set(modules), f"hoarfrost {words}"


def test_the_library_imports_what_is_asked_for() -> None:
    before, after = answer(IMPORTED)  # type: ignore[misc]
    assert not set(HEAVY) & set(before)
    assert "torch" in after
    assert not set(NOT_FOR_A_LOOP) & set(after)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_help_names_every_policy(name: str) -> None:
    shown = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    line = shown[shown.index("--policy") : shown.index("--freeze")]
    assert name in [word.strip("│ \n,") for word in line.replace(",", " ").split()]
