"""Reading the image, the label map and the objects of a sample."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.registry import TRANSFORMS

from ..segments import mask_of, paint_objects
from .base import IGNORED, BaseTransform, Results, pair, where
from .decode import MAX_PIXELS, decode_image, decode_labels, read_bytes, to_bgr


@TRANSFORMS.register_module(name=["LoadImage", "LoadImageFromFile"])
class LoadImage(BaseTransform):
    """Read ``img_path`` (or take the array given as ``img``) as (H, W, 3) BGR, uint8 or uint16.

    Grey is replicated to three channels, CMYK converted, 16-bit values kept.

    Args:
        alpha: "error" refuses images with an alpha channel, "drop" ignores the channel.
        ignore_orientation: do not apply the EXIF rotation.
        max_pixels: a picture of more pixels, by its header, is refused before it is decoded.
        to_float32: give float32 of the same values, so that the transforms after it do not round to whole levels.

    Raises:
        BadSampleError: the file is missing, empty, truncated, no image, too large, or holds other than 8 or 16 bits a
            channel.
    """

    def __init__(
        self,
        alpha: str = "error",
        ignore_orientation: bool = False,
        max_pixels: int = MAX_PIXELS,
        to_float32: bool = False,
    ) -> None:
        if alpha not in ("error", "drop"):
            raise ConfigError(f'LoadImage: alpha is "error" or "drop", not {alpha!r}')
        self.alpha = alpha
        self.ignore_orientation = ignore_orientation
        self.max_pixels = pair("LoadImage: max_pixels", max_pixels)[0]
        self.to_float32 = to_float32

    def transform(self, results: Results) -> Results:
        given = results.get("img")
        if given is None:
            path = results["img_path"]
            image = decode_image(read_bytes(path), path, self.alpha, self.ignore_orientation, self.max_pixels)
        else:
            image = to_bgr(np.asarray(given), where(results), self.alpha)
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Read the label map, or the objects, of a sample.

    The label map: ``seg_path`` as ``gt_seg_map``, (H, W) uint8 class indices, 255 where a pixel has no class. Palette
    PNGs give their indices. With ``reduce_zero_label`` the file's 0 becomes 255 and k becomes k - 1. A ``label_map`` of
    the dataset ({value in the file: class index or 255}) is applied instead where there is one. Where the dataset gives
    ``seg_objects`` the map is painted from them, see `paint_objects`.

    The objects: ``gt_bboxes`` (n, 4) float32, ``gt_bboxes_labels`` (n,) int64, ``gt_ignore_flags`` (n,) bool for crowds
    and difficult objects, and ``gt_masks`` (n, H, W) uint8, 0 or 1. Where masks are loaded, objects without a valid
    outline are ignored ones with an empty mask. All are in pixels of the file: in training they are loaded before the
    picture is resized, for evaluation after it.

    Args:
        reduce_zero_label: None takes the dataset's.
        max_pixels: as in LoadImage.
        with_seg: read the label map; None does so unless objects are asked for.
        with_bbox: read boxes and labels.
        with_mask: read masks as well.

    Raises:
        BadSampleError: the file cannot be read, is a colour picture, has another size than the image, or holds a value
            that is neither a class index nor the ignored one; the objects belong to a picture of another size.
        DataError: the dataset gives no label maps, or no objects.
    """

    def __init__(
        self,
        reduce_zero_label: bool | None = None,
        max_pixels: int = MAX_PIXELS,
        with_seg: bool | None = None,
        with_bbox: bool = False,
        with_mask: bool = False,
    ) -> None:
        self.reduce_zero_label = reduce_zero_label
        self.max_pixels = pair("LoadAnnotations: max_pixels", max_pixels)[0]
        self.with_mask = with_mask
        self.with_bbox = with_bbox or with_mask
        self.with_seg = not self.with_bbox if with_seg is None else with_seg

    def transform(self, results: Results) -> Results:
        if self.with_bbox:
            self._load_objects(results)
        if self.with_seg:
            self._load_labels(results)
        return results

    def _load_objects(self, results: Results) -> None:
        objects = results.get("objects")
        if objects is None:
            raise DataError(f"{where(results)}: the dataset gives no objects; with_bbox needs one such as CocoDataset")
        size = objects.height, objects.width
        _check_size(size, results, "the objects are of a picture of", where(results))
        results["gt_bboxes"] = objects.boxes.copy()
        results["gt_bboxes_labels"] = objects.labels.copy()
        results["gt_ignore_flags"] = objects.crowd | objects.difficult
        if self.with_mask:
            results["gt_masks"] = np.zeros((len(objects.boxes), *size), np.uint8)  # (n, H, W)
            for i, segmentation in enumerate(objects.segmentations):
                try:
                    columns = mask_of(segmentation, *size).T.view(np.uint8)  # COCO's masks lie column by column
                except DataError:
                    results["gt_ignore_flags"][i] = True
                else:
                    cv2.transpose(columns, dst=results["gt_masks"][i])

    def _load_labels(self, results: Results) -> None:
        path = results.get("seg_path")
        if path is None:
            remedy = "set with_bbox=True, with_seg=False" if "objects" in results else "set data_prefix.seg_map_path"
            raise DataError(f"{where(results)}: the dataset gives no mask (seg_path); {remedy}")
        if results.get("seg_objects") is not None:
            labels = paint_objects(results["seg_objects"])
        else:
            labels = decode_labels(read_bytes(path), path, self.max_pixels)
        _check_size(labels.shape, results, "the mask is", path)
        if self.reduce_zero_label is not None:
            results["reduce_zero_label"] = self.reduce_zero_label
        results["gt_seg_map"] = self._to_classes(labels, results, path)
        fields = results.setdefault("seg_fields", [])
        if "gt_seg_map" not in fields:
            fields.append("gt_seg_map")

    def _to_classes(self, labels: np.ndarray, results: Results, path: str) -> np.ndarray:
        classes: Sequence[str] | None = results.get("classes")
        reduce = bool(results.get("reduce_zero_label"))
        mapping: Mapping[int, int] = results.get("label_map") or {}
        ignore = results.get("ignore_index", IGNORED)
        table, allowed, identity = label_table(
            len(classes) if classes else None, reduce, ignore, tuple(sorted(mapping.items()))
        )
        present = value_counts(labels) > 0
        if (present & ~allowed).any():
            raise BadSampleError(_bad_values(labels, allowed, path, classes or (), reduce, ignore))
        return labels if identity else cv2.LUT(labels, table)


@lru_cache(maxsize=64)
def label_table(
    num_classes: int | None, reduce_zero_label: bool, ignore: int, label_map: tuple[tuple[int, int], ...] = ()
) -> tuple[np.ndarray, np.ndarray, bool]:
    """How values in a file become class indices: table (256,) uint8, allowed values (256,), whether it is the identity.

    ``num_classes=None`` allows every value.
    """
    values = np.arange(256)
    table = np.where(values == 0, IGNORED, values - 1) if reduce_zero_label else values.copy()
    table[ignore] = IGNORED
    for value, label in label_map:
        table[value] = label
    allowed = (table == IGNORED) & np.isin(values, [ignore, *([0] if reduce_zero_label else []), *dict(label_map)])
    allowed |= table < num_classes if num_classes is not None else values >= 0
    return table.astype(np.uint8), allowed, bool((table == values).all())


def value_counts(labels: np.ndarray) -> np.ndarray:
    """How often each value 0..255 occurs in a uint8 array (H, W): (256,) float32, exact up to 2**24 each."""
    return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()


def _check_size(size: tuple[int, ...], results: Results, what: str, path: str) -> None:
    expected = results.get("ori_shape")
    if expected is not None and size != tuple(expected):
        (h, w), (height, width) = size, expected
        turned = (
            "; is the image rotated by its EXIF tag? LoadImage(ignore_orientation=True)"
            if (w, h) == (height, width)
            else ""
        )
        image = "its image" if path == where(results) else f"its image {where(results)}"
        raise BadSampleError(f"{path}: {what} {w}x{h} but {image} is {width}x{height} (width x height){turned}")


def _bad_values(
    labels: np.ndarray, allowed: np.ndarray, path: str, classes: Sequence[str], reduce: bool, ignore: int
) -> str:
    counts = np.bincount(labels.ravel(), minlength=256)
    bad = [int(v) for v in np.flatnonzero((counts > 0) & ~allowed)]
    shown = ", ".join(f"{v} ({counts[v]} px)" for v in bad[:8]) + (", ..." if len(bad) > 8 else "")
    first, last = (1, len(classes)) if reduce else (0, len(classes) - 1)
    extra = " and 0 = no class (reduce_zero_label)" if reduce else ""
    hint = ""
    if path.lower().endswith((".jpg", ".jpeg")):
        hint = "; JPEG does not keep values exactly: masks are stored as PNG"
    elif bad == [len(classes)] and not reduce:
        hint = "; if 0 means no class and 1 is the first one, set reduce_zero_label=True"
    return (
        f"{path}: the mask holds {shown}, but with {len(classes)} classes the values are {first}..{last}, "
        f"{ignore} = ignored{extra}{hint}"
    )
