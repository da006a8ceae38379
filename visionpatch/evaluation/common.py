"""What the metrics share: the names of the classes, and tables as text."""

import io
import logging
from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich.console import Console
from rich.table import Table

from visionpatch.errors import DataError
from visionpatch.structures import DataSample


def class_names(metric: BaseMetric) -> Sequence[str]:
    """Those of the data set that is evaluated.

    Raises:
        DataError: its metainfo names none.
    """
    classes = (metric.dataset_meta or {}).get("classes")
    if not classes:
        name = type(metric).__name__
        raise DataError(f"{name}: the data set's metainfo names no classes; give the data set `metainfo` classes")
    return classes


def require_label(metric: BaseMetric, sample: DataSample) -> None:
    """Raise DataError for a sample of a data set without classes of whole pictures."""
    if "gt_label" not in sample:
        raise DataError(
            f"{sample.where()}: {type(metric).__name__} needs gt_label and the sample has none; take a data set that "
            "gives it (ImageFolderDataset, ListFileDataset), or do without this metric"
        )


def warn_of_dropped(metric: BaseMetric, count: int) -> None:
    """Tell the log how many predictions were left out, if any."""
    if count:
        name = type(metric).__name__
        warn(f"{name}: {count} predictions with a score or coordinate that is not finite are left out")


def warn(text: str) -> None:
    print_log(text, MMLogger.get_current_instance(), logging.WARNING)


def as_text(table: Table) -> str:
    """A table as plain text, for a log."""
    buffer = io.StringIO()
    Console(file=buffer, width=120, force_terminal=False).print(table)
    return buffer.getvalue().rstrip()
