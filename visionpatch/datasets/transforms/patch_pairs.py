"""Transforms of a patch pair: reading, augmentation, packing.

Keys besides those of `base`: ``thermal_path``; ``visible_centre``, ``thermal_centre`` (x, y), or None for files that
are a patch as a whole; ``jitter``, a move (x, y) of the thermal centre; ``aligned``, whether both pictures must
have one size; ``scene``, ``set``; and ``visible``, ``thermal``, the patches: (h, w) grey, uint8 or uint16 each.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.registry import TRANSFORMS
from visionpatch.structures import DataSample

from ..pair_folder import PictureCache, check_same_size
from ..patch_centres import cut_patch, inside
from .base import BaseTransform, Results, pair, span

SPECTRA = ("visible", "thermal")
META_KEYS = ("img_path", "thermal_path", "img_id", "sample_idx", "scene", "set", "centres", "negative")


@TRANSFORMS.register_module()
class LoadPatchPair(BaseTransform):
    """Cut the two patches, (size, size) grey, out of ``img_path`` and ``thermal_path``; 16 bits stay 16 bits.

    Args:
        size: side of a patch, even.
        cache_mb: pictures read lately that are kept in memory, for each process.

    Raises:
        BadSampleError: a picture cannot be read, the pictures of a pair differ in size, a patch is not inside its
            picture, or a file that is a patch has another size.
    """

    def __init__(self, size: int = 64, cache_mb: float = 256) -> None:
        self.size = pair("LoadPatchPair: size", size)[0]
        if self.size % 2:
            raise ConfigError(f"LoadPatchPair: size is an even number, not {size}")
        self._cache = PictureCache(cache_mb)

    def transform(self, results: Results) -> Results:
        paths = results["img_path"], results["thermal_path"]
        images = self._cache.read(paths[0]), self._cache.read(paths[1])
        if results.get("aligned"):
            check_same_size(images[0], images[1], paths[0], paths[1])
        if any(results.get("jitter", ())):
            self._move(results, images[1].shape)
        for spectrum, path, image in zip(SPECTRA, paths, images):
            results[spectrum] = self._cut(image, results[f"{spectrum}_centre"], path)
        results["img_shape"] = results["ori_shape"] = (self.size, self.size)
        return results

    def _move(self, results: Results, shape: tuple[int, ...]) -> None:
        """Move the thermal centre by ``jitter`` (x, y), as far as the patch stays in the picture (H, W)."""
        half, sides = self.size // 2, shape[::-1]
        moved = [at + by for at, by in zip(results["thermal_centre"], results["jitter"])]
        place = tuple(min(max(at, half), max(side - half, half)) for at, side in zip(moved, sides))
        results["thermal_centre"], results["centres"] = place, (*results["visible_centre"], *place)

    def _cut(self, image: np.ndarray, centre: tuple[int, int] | None, path: str) -> np.ndarray:
        height, width = image.shape
        if centre is None:
            if image.shape != (self.size, self.size):
                raise BadSampleError(
                    f"{path}: a patch of {width}x{height} (width x height), expected {self.size}x{self.size}"
                )
            return image
        if not inside(image.shape, *centre, self.size):
            raise BadSampleError(
                f"{path}: the patch of {self.size} pixels around x, y = {centre} is not inside the picture of "
                f"{width}x{height} (width x height); is the manifest of other pictures?"
            )
        return cut_patch(image, *centre, self.size)


@TRANSFORMS.register_module()
class AugmentPatchPair(BaseTransform):
    """The augmentation of the field: each patch for itself, then both alike.

    Of each patch 0 to `most` of these: blur, gamma, scale in x, in y, shift in x, in y, noise; borders are mirrored. Of
    both patches together 0 to `most` of: flip left-right, flip up-down, rotation by 90, 180 or 270 degrees. How many,
    and which, is uniformly random. The numbers are those of the training code of RRL-Net (YuChuang1205/RRL-Net,
    utils.gen4), where the blur has no width and does nothing.

    Args:
        most: operations of each of the two parts.
        blur: largest standard deviation in pixels; it is drawn uniformly from 0 on.
        gamma: range of the exponent, on the scale where the greatest value of the type is 1.
        scale: range of the factors.
        shift: largest shift as a share of the side.
        noise: standard deviation as a share of the greatest value of the type.
    """

    def __init__(
        self,
        most: int = 2,
        blur: float = 0.0,
        gamma: Sequence[float] = (0.5, 1.5),
        scale: Sequence[float] = (0.95, 1.05),
        shift: float = 0.05,
        noise: float = 0.02,
    ) -> None:
        if type(most) is not int or most < 0 or min(blur, shift, noise) < 0:
            raise ConfigError(
                f"AugmentPatchPair: most={most}, blur={blur}, shift={shift}, noise={noise}: 0 or more each"
            )
        self.most, self.blur, self.shift, self.noise = most, blur, shift, noise
        self.gamma, self.scale = span("AugmentPatchPair: gamma", gamma), span("AugmentPatchPair: scale", scale)

    def transform(self, results: Results) -> Results:
        for spectrum in SPECTRA:
            results[spectrum] = self._alone(results[spectrum])
        for operation in self._draw(3):
            quarters = np.random.randint(1, 4)
            for spectrum in SPECTRA:
                patch = results[spectrum]
                results[spectrum] = np.rot90(patch, quarters) if operation == 2 else np.flip(patch, 1 - operation)
        return results

    def _draw(self, number: int) -> list[int]:
        """0 to `most` different ones of `number` operations, in ascending order."""
        return sorted(np.random.permutation(number)[: np.random.randint(self.most + 1)].tolist())

    def _alone(self, patch: np.ndarray) -> np.ndarray:
        """Blur, gamma, geometry and noise of one patch (h, w), which is not written to."""
        chosen, white = self._draw(7), float(np.iinfo(patch.dtype).max)
        if not chosen:
            return patch
        kind, (height, width) = patch.dtype, patch.shape
        image: np.ndarray = patch.astype(np.float32)
        if 0 in chosen and (sigma := np.random.uniform(0, self.blur)) > 0.1:
            image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
        if 1 in chosen:
            image = white * (image / white) ** np.float32(np.random.uniform(*self.gamma))
        factors = [np.random.uniform(*self.scale) if k in chosen else 1.0 for k in (2, 3)]
        shares = [np.random.uniform(-self.shift, self.shift) if k in chosen else 0.0 for k in (4, 5)]
        shifts = shares[0] * width, shares[1] * height
        if {2, 3, 4, 5} & set(chosen):
            middle = (width - 1) / 2, (height - 1) / 2
            offset = [m - f * m + s for m, f, s in zip(middle, factors, shifts)]
            matrix = np.array([[factors[0], 0, offset[0]], [0, factors[1], offset[1]]])
            image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        if 6 in chosen:
            image = image + np.random.normal(0, self.noise * white, image.shape)
        return np.clip(np.round(image), 0, white).astype(kind)


@TRANSFORMS.register_module()
class PackPatchPair(BaseTransform):
    """Pack a pair as dict(inputs=dict(visible=..., thermal=...), data_samples=...).

    The patches are tensors (1, h, w) uint8 or uint16 of their own. ``data_samples`` holds `gt_label` (1,) int64, 1
    where both show the same place, and the metadata; ``centres`` is (vx, vy, tx, ty).

    Args:
        meta_keys: the keys kept as metadata; absent ones are left out.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: Results) -> Results:
        sample = DataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        sample.gt_label = torch.tensor([results["gt_label"]], dtype=torch.int64)
        inputs = {spectrum: torch.from_numpy(results[spectrum].copy())[None] for spectrum in SPECTRA}  # (1, h, w)
        return dict(inputs=inputs, data_samples=sample)
