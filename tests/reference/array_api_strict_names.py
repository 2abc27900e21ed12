"""Write array_api_strict_names.json: the primitives that array-api-strict runs on another device and without float64.

    python tests/reference/array_api_strict_names.py

They are those of `tests/test_array_api_strict.py` whose samples all give the host's numbers there.
"""

import importlib
import json
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("array_api_strict_names.json")


def names():
    """Return the names, sorted."""
    strict = importlib.import_module("test_array_api_strict")
    found = [strict.outcomes(device, dtype) for device, dtype in strict.DEVICES]
    return sorted(name for name in found[0] if all(said[name] is None for said in found))


def as_text(found):
    """Return the JSON text, one name a line."""
    return json.dumps(found, indent=0) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    TARGET.write_text(as_text(names()))
