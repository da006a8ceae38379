"""Pictures to codes and back, parts of them drawn anew, and new ones.

Letters: H, W sides of a picture, f factor of the tokenizer, h, w, c sides of a map of codes and codes at a point.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from numpy import ndarray
from torch import Tensor

from visionpatch.apis.inferencer import Inferencer, Picture
from visionpatch.datasets.transforms.decode import decode_image, read_bytes, to_bgr
from visionpatch.errors import ConfigError, DataError
from visionpatch.registry import INFERENCERS
from visionpatch.structures import DataSample
from visionpatch.visualization.tokenizer import draw_inpainting, draw_reconstruction

GENERATOR = "MaskedTokenGenerator"
KINDS = ("ImageTokenizer", GENERATOR)
OVERLAP = 8  # codes over which one tile fades into the next

Box = Sequence[float]


@INFERENCERS.register_module()
class TokenizerInferencer(Inferencer):
    """``TokenizerInferencer(config, weights).reconstruct("photo.jpg")`` by an ImageTokenizer or the tokenizer of a
    MaskedTokenGenerator; with the latter also `inpaint` and `generate`.

    Arguments are those of `Inferencer`. Pictures of samples are (3, H, W), RGB in 0..255.

    Raises:
        ConfigError: a model of another kind.
    """

    def __init__(self, config: Any, weights: Any = None, device: str | None = None) -> None:
        super().__init__(config, weights, device)
        self.generates: bool = self.cfg.model.type == GENERATOR
        self.tokenizer: Any = self.model.tokenizer if self.generates else self.model

    @classmethod
    def fits(cls, cfg: Config) -> bool:
        return (cfg.get("model") or {}).get("type") in KINDS

    @classmethod
    def check(cls, cfg: Config) -> None:
        if not cls.fits(cfg):
            kind = (cfg.get("model") or {}).get("type")
            raise ConfigError(f"{cfg.filename}: {cls.__name__} needs a model of type {' or '.join(KINDS)}, not {kind}")

    def names(self) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
        return (), ()

    @torch.inference_mode()
    def reconstruct(self, picture: Picture, tile: int | None = None) -> DataSample:
        """Encode a picture at its own size and decode it.

        Args:
            picture: a path, or an array (H, W, 3) BGR uint8, with sides of f or more.
            tile: decode squares of so many codes a side, so that memory does not grow with the picture; the result is
                near to that of the whole. None: at once. Encoding sees the whole picture either way.

        Returns:
            a sample with `pred_image`, `gt_image` and `pred_codes` (h, w, c).

        Raises:
            BadSampleError: the picture cannot be read. DataError: it is too small. ConfigError: a tile below 1.
        """
        image = self._normalised(read_colour(picture))
        codes = self.tokenizer.encode(image)
        overlap = OVERLAP if tile is None else min(OVERLAP, tile // 2)
        decoded = self.tokenizer.decode(codes, image.shape[-2:], tile, overlap)
        return _sample(picture, decoded[0], image[0], pred_codes=codes[0])

    @torch.inference_mode()
    def inpaint(
        self,
        picture: Picture,
        box: Box,
        label: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> DataSample:
        """Draw what is inside a box anew.

        The generator knows pictures of one size only: the largest part of the picture that has its shape, as near
        around the box as the edges allow, is cut out and resized.

        Args:
            picture: a path, or an array (H, W, 3) BGR uint8.
            box: x1, y1, x2, y2 in pixels of the picture.
            label: the class that the model is told; None: none.
            seed: of what is drawn.
            steps, guidance: None: those of the model.

        Returns:
            a sample with `gt_image`, the part cut out, `pred_image`, which differs from it inside `mask` (H, W) only,
            and the metadata `cut`, the part's x1, y1, x2, y2 in the picture.

        Raises:
            ConfigError: the model is no MaskedTokenGenerator, or an argument it refuses.
            BadSampleError: the picture cannot be read. DataError: no such box in the picture.
        """
        self._need_generator("inpaint")
        image = read_colour(picture)
        size = [self.tokenizer.stride * side for side in self.model.transformer.map_size]
        cut = cut_around(box, image.shape[:2], size)
        x1, y1, x2, y2 = cut
        shrinks = y2 - y1 > size[0]
        part = cv2.resize(image[y1:y2, x1:x2], size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        given = self._normalised(part)
        mask = torch.from_numpy(box_mask(box, cut, size)).to(given.device)
        drawn = self.model.inpaint(
            given, mask[None], _several(label, 1), self._sampling(steps, guidance), _seeded(seed)
        )
        sample = _sample(picture, drawn[0], given[0], mask=mask)
        sample.set_metainfo(dict(cut=cut))
        return sample

    @torch.inference_mode()
    def generate(
        self,
        num: int,
        label: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int = 16,
    ) -> list[Tensor]:
        """Draw `num` pictures, `batch_size` at a time; other arguments and errors as of `inpaint`."""
        self._need_generator("generate")
        generator, sampling = _seeded(seed), self._sampling(steps, guidance)
        found: list[Tensor] = []
        while len(found) < num:
            some = min(batch_size, num - len(found))
            drawn = self.model.generate(some, _several(label, some), sampling, generator)
            found += [_pixels(one) for one in drawn]
        return found

    def draw(self, image: ndarray, sample: DataSample, opacity: float = 0.5) -> ndarray:
        """A sample of `reconstruct` or `inpaint` beside its given picture, BGR; `image` and `opacity` are not used."""
        return draw_inpainting(sample) if "mask" in sample else draw_reconstruction(sample)

    def _normalised(self, image: ndarray) -> Tensor:
        """(H, W, 3) BGR -> (1, 3, H, W) in -1..1 on the model's device."""
        given = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        data = self.model.data_preprocessor(dict(inputs=[given], data_samples=[DataSample()]))
        return data["inputs"][..., : image.shape[0], : image.shape[1]]

    def _sampling(self, steps: int | None, guidance: float | None) -> Any:
        """That of the model with what is given."""
        given = dict(steps=steps, guidance=guidance)
        return replace(self.model.sampling, **{name: value for name, value in given.items() if value is not None})

    def _need_generator(self, what: str) -> None:
        if not self.generates:
            raise ConfigError(
                f"{self.cfg.filename}: {what} needs a model of type {GENERATOR}; an ImageTokenizer only gives pictures "
                "back"
            )


def read_colour(picture: Picture) -> ndarray:
    """A path or an array to (H, W, 3) BGR.

    Raises:
        BadSampleError: it cannot be read.
    """
    if isinstance(picture, ndarray):
        return to_bgr(picture, "an array")
    return decode_image(read_bytes(picture), picture)


def cut_around(box: Box, shape: Sequence[int], size: Sequence[int]) -> tuple[int, int, int, int]:
    """The largest part (x1, y1, x2, y2) of a picture of `shape` (H, W) that is as wide to high as `size` (H, W), its
    middle as near to that of the box as the edges allow.

    Raises:
        DataError: no box, or one that does not touch the picture.
    """
    height, width = shape
    if len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
        raise DataError(f"{' '.join(f'{x:g}' for x in box)} is no box; give x1 y1 x2 y2 with x1 < x2 and y1 < y2")
    if box[2] <= 0 or box[3] <= 0 or box[0] >= width or box[1] >= height:
        raise DataError(
            f"the box {' '.join(f'{x:g}' for x in box)} lies outside the picture of {width} x {height} pixels (width x "
            "height)"
        )
    scale = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    left = round(min(max((box[0] + box[2] - columns) / 2, 0), width - columns))
    top = round(min(max((box[1] + box[3] - rows) / 2, 0), height - rows))
    return left, top, left + columns, top + rows


def box_mask(box: Box, cut: Sequence[int], size: Sequence[int]) -> ndarray:
    """Which pixels of the part `cut` of a picture, resized to `size` (H, W), the box touches: (H, W) bool."""
    scale = size[1] / (cut[2] - cut[0]), size[0] / (cut[3] - cut[1])
    left, right = ((x - cut[0]) * scale[0] for x in (box[0], box[2]))
    top, bottom = ((y - cut[1]) * scale[1] for y in (box[1], box[3]))
    columns, rows = np.arange(size[1]), np.arange(size[0])[:, None]
    return (columns + 1 > left) & (columns < right) & (rows + 1 > top) & (rows < bottom)


def _sample(picture: Picture, pred: Tensor, gt: Tensor, **more: Tensor) -> DataSample:
    path = "an array" if isinstance(picture, ndarray) else str(picture)
    sample = DataSample(metainfo=dict(img_path=path))
    sample.pred_image, sample.gt_image = _pixels(pred), _pixels(gt)
    sample.set_data(more)
    return sample


def _pixels(image: Tensor) -> Tensor:
    """-1..1 -> 0..255."""
    return ((image.float() + 1) * 127.5).clamp(0, 255)


def _several(label: int | None, number: int) -> list[int] | None:
    return None if label is None else [label] * number


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
