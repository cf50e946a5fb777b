"""Lets the tests import what they test."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("tests", "bench", "tools"):
    sys.path.insert(0, str(ROOT / folder))
