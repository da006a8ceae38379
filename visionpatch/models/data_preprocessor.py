"""From a list of uint8 images to one normalised batch, on the model's device."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from torch import Tensor
from torch.nn import functional as F

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample


@MODELS.register_module()
class DataPreprocessor(BaseDataPreprocessor):
    """Moves uint8 or uint16 images to the device, converts BGR to RGB, normalises, pads to one size and stacks.

    Args:
        mean, std: one value a channel, in RGB order where `bgr_to_rgb`, on the scale 0..255.
        bgr_to_rgb: the images of the pipeline are BGR; the network wants RGB.
        pad_size_divisor: sides are rounded up to a multiple of it.
        pad_val: value of the padding, after normalisation.
        seg_pad_val: label of the padding in training.
        uint16_max: value of a 16-bit image that corresponds to 255, e.g. 65535 or 16383; None: 16-bit images are an
            error.

    Raises:
        ConfigError: mean and std of different lengths.
        BadSampleError: an image with another number of channels than `mean`, or a 16-bit one without `uint16_max`.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = True,
        pad_size_divisor: int = 1,
        pad_val: float = 0.0,
        seg_pad_val: int = 255,
        uint16_max: int | None = None,
    ) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ConfigError(
                f"data_preprocessor: mean has {len(mean)} values and std {len(std)}; expected one a channel"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)
        self.bgr_to_rgb, self.pad_size_divisor, self.uint16_max = bgr_to_rgb, pad_size_divisor, uint16_max
        self.pad_val, self.seg_pad_val = pad_val, seg_pad_val

    def forward(self, data: dict, training: bool = False) -> dict:
        """`inputs`: images (C, H, W) of any sizes; `data_samples`: their DataSamples or None.

        Returns the dict with `inputs` as one float batch (B, C, H, W) in channels_last memory. In training, label maps
        and the masks of objects are padded alike. Every sample's metadata gains `pad_shape`, its own sides rounded up,
        and `batch_input_shape`, the sides H, W of the batch.
        """
        data = self.cast_data(data)
        images, samples = data["inputs"], data.get("data_samples")
        images = [self._normalise(image, samples[i] if samples else None) for i, image in enumerate(images)]
        shapes = [tuple(_round_up(side, self.pad_size_divisor) for side in image.shape[-2:]) for image in images]
        height, width = (max(sides) for sides in zip(*shapes))
        images = [_pad(image, height, width, self.pad_val) for image in images]
        for sample, shape in zip(samples or (), shapes):
            sample.set_metainfo({"pad_shape": shape, "batch_input_shape": (height, width)})
            if training:
                self._pad_targets(sample, height, width)
        batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
        return {**data, "inputs": batch}

    def _pad_targets(self, sample: DataSample, height: int, width: int) -> None:
        if "gt_sem_seg" in sample:
            padded = _pad(sample.gt_sem_seg.data, height, width, self.seg_pad_val)
            sample.gt_sem_seg = PixelData(data=padded)
        if "gt_instances" in sample and "masks" in sample.gt_instances:
            sample.gt_instances.masks = _pad(sample.gt_instances.masks, height, width, 0)

    def _normalise(self, image: Tensor, sample: DataSample | None) -> Tensor:
        """(C, H, W) integer to float32 (C, H, W)."""
        where = sample.where() if sample is not None else "an image"
        if image.ndim != 3 or image.shape[0] != len(self.mean):
            raise BadSampleError(
                f"{where}: shape {tuple(image.shape)}, but data_preprocessor.mean has {len(self.mean)} channels"
            )
        if image.dtype == torch.uint16:
            image = image.float() * (255.0 / self._full_scale(where))
        if self.bgr_to_rgb and image.shape[0] == 3:
            image = image.flip(0)
        return (image - self.mean) / self.std

    def _full_scale(self, where: str) -> float:
        if self.uint16_max is None:
            raise BadSampleError(
                f"{where}: a 16-bit image, but the config expects 8 bits; set model.data_preprocessor.uint16_max to "
                "the value that stands for white (65535, or 16383 for 14-bit sensors)"
            )
        return float(self.uint16_max)


@MODELS.register_module()
class FewShotDataPreprocessor(DataPreprocessor):
    """As `DataPreprocessor`, and normalises the supports' pictures; nothing is padded beyond `pad_size_divisor`.

    The result's `inputs` is a batch (B, C, H, W) where sizes agree and a list of (C, H, W) where they do not. Samples
    that share one list of supports share the result. Arguments are those of `DataPreprocessor`.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        samples = data.get("data_samples") or [DataSample() for _ in data["inputs"]]
        images: list[Tensor] = []
        shared: dict[int, list[DataSample]] = {}
        for image, sample in zip(data["inputs"], samples, strict=True):
            image = self._normalise(image, sample)
            shape = tuple(_round_up(side, self.pad_size_divisor) for side in image.shape[-2:])
            sample.set_metainfo({"pad_shape": shape, "batch_input_shape": shape})
            if training:
                self._pad_targets(sample, shape[0], shape[1])
            images.append(_pad(image, shape[0], shape[1], self.pad_val))
            if "support" in sample:
                key = id(sample.support)
                shared[key] = shared.get(key) or [self.normalise_support(shot) for shot in sample.support]
                sample.support = shared[key]
        same = len({image.shape for image in images}) == 1
        inputs = torch.stack(images).contiguous(memory_format=torch.channels_last) if same else images
        return {**data, "inputs": inputs}

    def normalise_support(self, shot: DataSample) -> DataSample:
        """A copy of a support on the device, with its picture as the network takes it.

        Raises:
            BadSampleError: no picture, or one that cannot be normalised.
        """
        shot = self.cast_data(shot)
        if "image" not in shot:
            raise BadSampleError(f"{shot.where()}: a support without picture; it needs image (C, h, w) and gt_sem_seg")
        shot.image = self._normalise(shot.image, shot)
        return shot


def _round_up(side: int, divisor: int) -> int:
    return -(-side // divisor) * divisor


def _pad(x: Tensor, height: int, width: int, value: Any) -> Tensor:
    """(..., H, W) padded at the bottom and right."""
    bottom, right = height - x.shape[-2], width - x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), value=value) if bottom or right else x
