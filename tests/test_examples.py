"""Each example runs, and does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_python(path, folder):
    """What a script prints, run in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(
        [sys.executable, "-W", "error", path], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_custom_layer(tmp_path):
    path = ROOT / "examples" / "custom_layer.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    printed = run_python(path, tmp_path)
    assert "channelscale_1.scale" in printed
    accuracy, scales = re.search(r"Test accuracy ([\d.]+)%, scales \[(.*)\]", printed, re.DOTALL).groups()
    assert float(accuracy) > 80
    assert any(float(scale) != 0.5 for scale in scales.split())
