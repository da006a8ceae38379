"""The errors a user meets. Each says what was given, what was expected, where, and what to do."""

import difflib
from collections.abc import Iterable


class VisionpatchError(Exception):
    """Base class of every error the toolbox raises for bad input."""

    status = 2  # with which a command-line tool ends


class ConfigError(VisionpatchError, ValueError):
    """A config, a command-line override or a constructor argument is wrong."""


class DataError(VisionpatchError, ValueError):
    """A dataset as a whole cannot be used: missing folder, empty split, wrong class list."""


class BadSampleError(DataError):
    """One file of a dataset cannot be used; the message begins with its path."""


class WeightsError(VisionpatchError, ValueError):
    """A checkpoint cannot be read, is unsafe, or does not fit the model."""


class SaveError(VisionpatchError, OSError):
    """A file cannot be written; the one it was to replace is untouched."""


class WorkerError(VisionpatchError, RuntimeError):
    """A process that loads data died or hangs."""


class NonFiniteLossError(VisionpatchError, ArithmeticError):
    """A loss or a gradient became NaN or infinite; the message names the iteration, the terms and the samples."""


class TrainingStopped(VisionpatchError):  # noqa: N818
    """A signal ended the training after an iteration; the message names the checkpoint to go on from."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again later


class MissingDependencyError(VisionpatchError, ImportError):
    """An optional package is needed; the message holds the command that installs it."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint ``'; did you mean "x"?'`` for a misspelt `name`, or what is valid when nothing is near."""
    valid = sorted(str(v) for v in valid)
    lowered = {v.lower(): v for v in valid}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(f'"{lowered[c]}"' for c in close) + "?"
    shown = ", ".join(valid[:20]) + (", ..." if len(valid) > 20 else "")
    return f"; valid: {shown}" if valid else ""
