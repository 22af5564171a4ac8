"""Search the model of recoveries within larger bounds than the suite has time for.

    python tests/campaigns/recovery_model.py "two, going above each other"

Without names all bounds are searched; the last one was never searched to its end.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.model.recovery import BOUNDS, RecoveryModel

if __name__ == "__main__":
    for name in sys.argv[1:] or BOUNDS:
        print(f"{name}: {RecoveryModel(**BOUNDS[name]).search():,} states", flush=True)
