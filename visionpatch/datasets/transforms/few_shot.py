"""The transforms of few-shot episodes, with the parameters of SCCAN's published code (arXiv 2308.09294) as defaults."""

from collections.abc import Sequence

import cv2
import numpy as np

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.registry import TRANSFORMS

from .base import IGNORED, BaseTransform, Results, pair, probability, span, where
from .crop import Window, crop
from .flip import Pad
from .instances import pad_objects
from .resize import check_interpolation, resize

MEAN_COLOUR = (104, 116, 124)  # of ImageNet, BGR: the published 255 * (0.406, 0.456, 0.485) in whole levels


@TRANSFORMS.register_module()
class SelectClass(BaseTransform):
    """Make the label map that of one class: 1 where ``class_id`` is, 0 elsewhere, 255 where nothing is known.

    With ``ann_type="bbox"`` each connected part of the class becomes its filled bounding box; the published boxes are
    one pixel larger than the part at the right and the bottom, and so are these. It belongs directly after
    LoadAnnotations.

    Raises:
        BadSampleError: no pixel has the class, and ``class_may_be_absent`` is not set.
        ConfigError: no ``class_id``: the data set is no EpisodeDataset.
    """

    def transform(self, results: Results) -> Results:
        if "class_id" not in results:
            raise ConfigError("SelectClass: there is no class_id; this transform belongs into an EpisodeDataset")
        labels = results["gt_seg_map"]
        mask = (labels == results["class_id"]).astype(np.uint8)
        if not mask.any() and not results.get("class_may_be_absent"):
            raise BadSampleError(
                f"{where(results)}: no pixel of the mask has the class {results['class_id']} "
                f'("{results.get("class_name", "")}"); was the mask changed, or cut before SelectClass?'
            )
        if results.get("ann_type") == "bbox":
            mask = fill_boxes(mask)
        mask[labels == IGNORED] = IGNORED
        results["gt_seg_map"] = mask
        return results


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Resize by a random factor, the same for both sides.

    Args:
        scale_range: (low, high) of the factor. Published: (0.9, 1.1) for PASCAL, (0.8, 1.25) for COCO.
        interpolation: as Resize.
    """

    def __init__(self, scale_range: tuple[float, float] = (0.9, 1.1), interpolation: str = "bilinear") -> None:
        self.scale_range = span("RandomScale: scale_range", scale_range)
        self.interpolation = check_interpolation("RandomScale", interpolation)

    def transform(self, results: Results) -> Results:
        factor = np.random.uniform(*self.scale_range)
        height, width = results["img"].shape[:2]
        size = round(width * factor), round(height * factor)
        return resize(results, size, False, None, self.interpolation)


@TRANSFORMS.register_module()
class RandomRotate(BaseTransform):
    """Rotate the image and its label maps about (W / 2, H / 2) by a random angle; the size stays.

    Args:
        degree: the angle is up to this many degrees, to either side.
        prob: probability.
        pad_val: colour (BGR) of the corners that were not in the image.
        seg_pad_val: their label.

    Raises:
        ConfigError: boxes or masks of objects are loaded: they are not rotated.
    """

    def __init__(
        self,
        degree: float = 10,
        prob: float = 0.5,
        pad_val: Sequence[float] = MEAN_COLOUR,
        seg_pad_val: int = IGNORED,
    ) -> None:
        self.degree = span("RandomRotate: degree", (0, degree), positive=False)[1]
        self.prob = probability("RandomRotate: prob", prob)
        self.pad_val = tuple(pad_val)
        self.seg_pad_val = seg_pad_val

    def transform(self, results: Results) -> Results:
        if "gt_bboxes" in results:
            raise ConfigError("RandomRotate does not move boxes and masks of objects; take it out of the pipeline")
        if np.random.random_sample() >= self.prob:
            return results
        height, width = results["img"].shape[:2]
        angle = np.random.uniform(-self.degree, self.degree)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        steps = [("img", cv2.INTER_LINEAR, self.pad_val)]
        steps += [(key, cv2.INTER_NEAREST, (self.seg_pad_val,)) for key in results.get("seg_fields", ())]
        for key, interpolation, value in steps:
            results[key] = cv2.warpAffine(results[key], matrix, (width, height), flags=interpolation, borderValue=value)
        return results


@TRANSFORMS.register_module()
class RandomGaussianBlur(BaseTransform):
    """Blur the image.

    Args:
        kernel_size: of the filter, odd; its sigma follows from it as in OpenCV.
        prob: probability.
    """

    def __init__(self, kernel_size: int = 5, prob: float = 0.5) -> None:
        if type(kernel_size) is not int or kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"RandomGaussianBlur: kernel_size is an odd number, not {kernel_size!r}")
        self.kernel_size = kernel_size
        self.prob = probability("RandomGaussianBlur: prob", prob)

    def transform(self, results: Results) -> Results:
        if np.random.random_sample() < self.prob:
            results["img"] = cv2.GaussianBlur(results["img"], (self.kernel_size, self.kernel_size), 0)
        return results


@TRANSFORMS.register_module()
class ForegroundCrop(BaseTransform):
    """Cut a random window that keeps most of the foreground, the pixels of label 1; smaller pictures are padded first.

    The picture lies in the middle of the padding. While a window holds less than `min_share` of the foreground another
    one is drawn, `tries` times at most; the last one is taken.

    Args:
        crop_size: (height, width), or one number for both.
        min_share: of the foreground pixels of the picture.
        tries: further windows.
        pad_val: colour (BGR) of the padding.
        seg_pad_val: its label.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int] = 473,
        min_share: float = 0.85,
        tries: int = 31,
        pad_val: Sequence[float] = MEAN_COLOUR,
        seg_pad_val: int = IGNORED,
    ) -> None:
        self.crop_size = pair("ForegroundCrop: crop_size", crop_size)
        if not 0 <= min_share <= 1 or tries < 0:
            raise ConfigError(f"ForegroundCrop: min_share is in [0, 1] and tries from 0, not {min_share} and {tries}")
        self.min_share = min_share
        self.tries = tries
        self.pad_val = tuple(pad_val)
        self.seg_pad_val = seg_pad_val

    def transform(self, results: Results) -> Results:
        self._pad(results)
        size = results["img"].shape[:2]
        foreground = results["gt_seg_map"] == 1
        enough = self.min_share * np.count_nonzero(foreground)
        window = self._draw(size)
        for _ in range(self.tries):
            if np.count_nonzero(foreground[window]) >= enough:
                break
            window = self._draw(size)
        return crop(results, window)

    def _pad(self, results: Results) -> None:
        height, width = (
            max(wanted - side, 0) for wanted, side in zip(self.crop_size, results["img"].shape[:2], strict=True)
        )
        if not height and not width:
            return
        top, left = height // 2, width // 2
        edges = top, height - top, left, width - left
        for key in ("img", *results.get("seg_fields", ())):
            value = self.pad_val if key == "img" else (self.seg_pad_val,)
            results[key] = cv2.copyMakeBorder(results[key], *edges, cv2.BORDER_CONSTANT, value=value)
        pad_objects(results, left, top, edges[3], edges[1])

    def _draw(self, size: tuple[int, int]) -> Window:
        starts = [np.random.randint(0, side - wanted + 1) for side, wanted in zip(size, self.crop_size, strict=True)]
        rows, columns = (slice(start, start + wanted) for start, wanted in zip(starts, self.crop_size, strict=True))
        return rows, columns


@TRANSFORMS.register_module()
class ResizeToCanvas(BaseTransform):
    """Resize to a longer side of `size` and put the picture into the upper left corner of a square of that size.

    The shorter side keeps the ratio, cut to an integer; then both are rounded down to a multiple of `size_divisor`, so
    of a square of 473 pixels a picture fills 472. ``img_shape`` is the shape of the picture, ``pad_shape`` that of the
    square. The published code resizes float32 images: LoadImage(to_float32=True).

    Args:
        size: side of the square.
        size_divisor: 1 keeps the sides.
        shrink_only: leave pictures as they are that fit into the square.
        pad_val: value of the rest of the square, before normalisation: black.
        seg_pad_val: its label.
        interpolation: as Resize.
    """

    def __init__(
        self,
        size: int = 473,
        size_divisor: int = 8,
        shrink_only: bool = False,
        pad_val: int = 0,
        seg_pad_val: int = IGNORED,
        interpolation: str = "bilinear",
    ) -> None:
        self.size, self.size_divisor = pair("ResizeToCanvas: size and size_divisor", (size, size_divisor))
        if self.size < self.size_divisor:
            raise ConfigError(f"ResizeToCanvas: size={size} is smaller than size_divisor={size_divisor}")
        self.shrink_only = shrink_only
        self.interpolation = check_interpolation("ResizeToCanvas", interpolation)
        self.pad = Pad(size=self.size, pad_val=dict(img=pad_val, seg=seg_pad_val))

    def transform(self, results: Results) -> Results:
        height, width = results["img"].shape[:2]
        if not self.shrink_only or max(height, width) > self.size:
            ratio = self.size / max(height, width)
            sides = (width * ratio, self.size) if height >= width else (self.size, height * ratio)
            results = resize(results, (self._round(sides[0]), self._round(sides[1])), False, None, self.interpolation)
        return self.pad.transform(results)

    def _round(self, side: float) -> int:
        """A multiple of the divisor; a side shorter than that stays, and has a pixel at least."""
        whole = max(int(side), 1)
        return whole - whole % self.size_divisor or whole


def fill_boxes(mask: np.ndarray) -> np.ndarray:
    """Each connected part (8 neighbours) of `mask` (H, W) uint8 becomes its filled box, one pixel larger at the end."""
    boxes = cv2.connectedComponentsWithStats(mask)[2][1:, :4]  # x, y, width, height; the first one is the background
    filled = mask.copy()
    for x, y, width, height in boxes.tolist():
        filled[y : y + height + 1, x : x + width + 1] = 1
    return filled
