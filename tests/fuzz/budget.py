"""How many malformed inputs are tried: VISIONPATCH_FUZZ in all, 500 by default; ``make fuzz`` tries 10,000."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("VISIONPATCH_FUZZ", "500"))
NIGHTLY = "VISIONPATCH_FUZZ" in os.environ


def share(fraction: float) -> Any:
    """Settings of a test that gets this part of all cases; the default run tries the same ones every time."""
    return settings(
        max_examples=max(1, round(EXAMPLES * fraction)),
        deadline=None,
        database=None,
        derandomize=not NIGHTLY,
        suppress_health_check=list(HealthCheck),
    )
