"""Where data lies."""

import os
from pathlib import Path


def data_path(path: str | os.PathLike) -> str:
    """`path` as given; where it does not exist and begins with ``data/``, the same below the usual data folders.

    These are the environment variable VISIONPATCH_DATA and ``data`` beside the package. A path found nowhere comes back
    below the first of them that exists, so that messages can tell what is there.
    """
    given = Path(path).expanduser()
    if given.is_absolute() or given.exists() or given.parts[:1] != ("data",):
        return str(given)
    rest = Path(*given.parts[1:])
    roots = [os.environ.get("VISIONPATCH_DATA", ""), str(Path(__file__).resolve().parents[1] / "data")]
    places = [Path(root) / rest for root in roots if root and os.path.isdir(root)]
    return str(next((place for place in places if place.exists()), places[0] if places else given))
