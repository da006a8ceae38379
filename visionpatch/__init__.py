"""visionpatch: patch-based dense prediction on MMEngine."""

from visionpatch.distributions import warn_of_overwritten

__version__ = "0.1.0"

warn_of_overwritten()
