"""Put the examples, which are scripts outside of a package, on the path of these tests."""

import sys
from pathlib import Path

for folder in (Path(__file__).parents[2] / "examples", Path(__file__).parent):
    sys.path.insert(0, str(folder))
