"""visionpatch: patch-based dense prediction on MMEngine."""

__version__ = "0.1.0"
