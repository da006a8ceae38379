"""Segmenting, in any picture, the class that a few annotated pictures show."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from numpy import ndarray
from torch import Tensor

from visionpatch.apis.inferencer import Inferencer, Picture, describe, test_dataset, without_truth
from visionpatch.datasets.transforms import Compose
from visionpatch.datasets.transforms.decode import decode_labels, read_bytes
from visionpatch.engine.atomic import atomic_path
from visionpatch.engine.safe_loading import read_tensors
from visionpatch.errors import BadSampleError, ConfigError, DataError, WeightsError
from visionpatch.registry import INFERENCERS, SCOPE
from visionpatch.structures import DataSample
from visionpatch.visualization.segmentation import draw_segmentation

DEFAULT = "prototype_efficientnet-lite0_pascal-5i-320x320"  # needs no training
COLOUR = (230, 60, 40)  # of the class, RGB
CLASS, UNKNOWN = 1, 255
ENCODER = "encoder"  # tensor of a saved support set that tells which model made it


@INFERENCERS.register_module()
class FewShotInferencer(Inferencer):
    """``FewShotInferencer(support_images, support_masks)(query)``: the pixels of the class that the supports show.

    The support set is encoded once, for any number of queries.

    Args:
        support_images: a picture or several, paths or arrays (h, w, 3) BGR uint8.
        support_masks: a mask for each, path or array (h, w) of the picture's size, see `read_mask`.
        config, weights, device: as `Inferencer`; the default compares with prototypes of ImageNet features and needs
            no checkpoint.
        mask_value: the value of the class in the masks, where they hold several.
        class_name: for the legend of `draw`.

    Attributes:
        support: the encoded set, a dict of tensors whose first axis is the shot.

    Raises:
        ConfigError: no such config, or a model for another task.
        DataError: no support, or pictures without a mask each.
        BadSampleError: a picture or mask cannot be read, or they differ in size.
    """

    def __init__(
        self,
        support_images: Picture | Sequence[Picture],
        support_masks: Picture | Sequence[Picture],
        config: str | Path | Config = DEFAULT,
        weights: str | Path | None = None,
        device: str | None = None,
        mask_value: int | None = None,
        class_name: str = "class",
    ) -> None:
        self._build(config, weights, device, class_name)
        self.support = self.encode(support_images, support_masks, mask_value)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        config: str | Path | Config = DEFAULT,
        weights: str | Path | None = None,
        device: str | None = None,
        class_name: str = "class",
    ) -> "FewShotInferencer":
        """One with a support set that `save_support` wrote; config and weights must be those it was encoded with.

        Raises:
            WeightsError: the file cannot be read, or another model encoded it.
        """
        self = cls.__new__(cls)
        self._build(config, weights, device, class_name)
        self.support = self._read_support(Path(path))
        return self

    def _build(
        self, config: str | Path | Config, weights: str | Path | None, device: str | None, class_name: str
    ) -> None:
        self.class_name = class_name
        super().__init__(config, weights, device)
        dataset = test_dataset(self.cfg)
        steps = dataset.get("support_pipeline") or dataset.get("pipeline") or ()
        with DefaultScope.overwrite_default_scope(SCOPE):
            self.support_pipeline = Compose(without_truth(steps))

    def names(self) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
        return ("background", self.class_name), ((0, 0, 0), COLOUR)

    def encode(
        self,
        images: Picture | Sequence[Picture],
        masks: Picture | Sequence[Picture],
        mask_value: int | None = None,
    ) -> dict[str, Tensor]:
        """Pictures and masks to an encoded support set; arguments and errors as those of the class."""
        pictures, drawn = _several(images), _several(masks)
        if not pictures or len(pictures) != len(drawn):
            raise DataError(f"{len(pictures)} support picture(s) with {len(drawn)} mask(s); give one mask a picture")
        shots = [self._shot(*pair, mask_value, i) for i, pair in enumerate(zip(pictures, drawn, strict=True))]
        shots = [self.model.data_preprocessor.normalise_support(shot) for shot in shots]
        with torch.inference_mode():
            return self.model.encode_support([shot.image for shot in shots], [shot.gt_sem_seg.data for shot in shots])

    def _shot(self, picture: Picture, mask: Picture, mask_value: int | None, index: int) -> DataSample:
        results = describe(picture, index) | dict(gt_seg_map=read_mask(mask, mask_value), seg_fields=["gt_seg_map"])
        load, *rest = self.support_pipeline.transforms
        results = load(results)
        drawn, taken = (" x ".join(map(str, results[key].shape[:2])) for key in ("gt_seg_map", "img"))
        if drawn != taken:
            raise BadSampleError(
                f"{results['img_path']}: the mask is {drawn} pixels (height x width), its picture {taken}; give a mask "
                "of the picture's size"
            )
        for step in rest:
            results = step(results)
        sample = results["data_samples"]
        sample.image = results["inputs"]
        return sample

    @cached_property
    def prepared(self) -> Mapping[str, Any]:
        """`support` with what the head computes of it alone."""
        with torch.inference_mode():
            return self.model.decode_head.prepare(self.support)

    def stream(self, pictures: Sequence[Picture]) -> Iterator[DataSample]:
        for index, picture in enumerate(pictures):
            packed: Any = self.pipeline(describe(picture, index))
            with torch.inference_mode():
                data = dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]])
                data = self.model.data_preprocessor(data, False)
                yield self.model.predict(data["inputs"], self.prepared, data["data_samples"])[0]

    def save_support(self, path: str | Path) -> None:
        """Write the encoded set as one safetensors file.

        Raises:
            SaveError: the file cannot be written.
        """
        from safetensors.torch import save_file

        content = {name: x.detach().cpu().contiguous() for name, x in self.support.items()}
        with atomic_path(path) as part:
            save_file(content | {ENCODER: self._fingerprint()}, str(part))

    def _read_support(self, path: Path) -> dict[str, Tensor]:
        try:
            content = read_tensors(path)
            encoder = content.pop(ENCODER)
        except WeightsError:
            raise
        except Exception as error:  # whatever a file that is no support set raises
            raise WeightsError(f"{path}: no support set can be read from it: {error}") from error
        if not torch.equal(encoder, self._fingerprint()):
            raise WeightsError(
                f"{path}: was encoded by another model or with other weights than {self.cfg.filename}; give those, or "
                "encode the support again"
            )
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        return {name: x.to(device) for name, x in content.items()}

    def _fingerprint(self) -> Tensor:
        """32 bytes that change with the config of the model and with every weight."""
        digest = hashlib.sha256(repr(self.cfg.model).encode())
        for name, x in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)

    def draw(self, image: ndarray, sample: DataSample, opacity: float = 0.5) -> ndarray:
        """The predicted pixels over their picture (H, W, 3) BGR, with a legend."""
        labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
        return draw_segmentation(image, labels, self.classes, self.palette, opacity)

    @classmethod
    def check(cls, cfg: Config) -> None:
        if not cls.fits(cfg):
            raise ConfigError(f"{cfg.filename}: FewShotInferencer needs a model of type FewShotSegmentor")

    @classmethod
    def fits(cls, cfg: Config) -> bool:
        return (cfg.get("model") or {}).get("type") == "FewShotSegmentor"


def read_mask(mask: Picture, value: int | None = None) -> ndarray:
    """A mask (h, w) uint8 with 1 for the class, 0 for the rest and 255 for unknown.

    Args:
        mask: path of a grey or palette PNG, or an array (h, w) of booleans or integers.
        value: the pixels of this value are the class, 255 is unknown. None: a mask of 0 and one other value, or of 0, 1
            and 255, says itself which is the class.

    Raises:
        BadSampleError: it cannot be read, is empty, or holds more values than that.
    """
    where = "a support mask" if isinstance(mask, ndarray) else str(mask)
    labels: ndarray = mask if isinstance(mask, ndarray) else decode_labels(read_bytes(mask), mask)
    if labels.ndim != 2:
        raise BadSampleError(f"{where}: has the shape {labels.shape}; a mask is (height, width)")
    values = sorted(set(np.unique(labels).astype(int).tolist()) - {0})
    if value is None:
        if len(values) > 1 and values != [CLASS, UNKNOWN]:
            held = ", ".join(map(str, values[:8]))
            raise BadSampleError(f"{where}: holds the values {held}; say which of them is the class: mask_value")
        value = values[0] if values else CLASS
    result = (labels == value).astype(np.uint8)
    if value != UNKNOWN:
        result[labels == UNKNOWN] = UNKNOWN
    if not (result == CLASS).any():
        held = f"only the values {', '.join(map(str, values))}" if values else "nothing but 0"
        raise BadSampleError(f"{where}: no pixel shows the class (value {value}); the mask holds {held}")
    return result


def draw_mask(shape: Sequence[int], boxes: Sequence[Sequence[float]], polygons: Sequence[Sequence[float]]) -> ndarray:
    """A mask (h, w) with 1 inside boxes (x1, y1, x2, y2) and polygons (x, y, x, y, ...), in pixels.

    Raises:
        DataError: numbers that are no box or polygon, or a shape outside the picture.
    """
    import cv2

    mask = np.zeros(tuple(shape[:2]), np.uint8)
    corners = [[x1, y1, x2, y1, x2, y2, x1, y2] for x1, y1, x2, y2 in map(_box, boxes)]
    for points in [*corners, *polygons]:
        if len(points) < 6 or len(points) % 2:
            raise DataError(f"{len(points)} numbers are no polygon; give x y of three corners or more")
        before = int(mask.sum())
        cv2.fillPoly(mask, [np.round(np.array(points, np.float64).reshape(-1, 2)).astype(np.int32)], CLASS)
        if int(mask.sum()) == before:
            raise DataError(
                f"the shape {' '.join(f'{x:g}' for x in points)} adds no pixel to a picture of {shape[1]} x {shape[0]} "
                "pixels (width x height)"
            )
    return mask


def _box(numbers: Sequence[float]) -> Sequence[float]:
    if len(numbers) != 4 or numbers[2] <= numbers[0] or numbers[3] <= numbers[1]:
        raise DataError(f"{' '.join(f'{x:g}' for x in numbers)} is no box; give x1 y1 x2 y2 with x1 < x2 and y1 < y2")
    return numbers


def _several(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    return [pictures] if isinstance(pictures, str | Path | ndarray) else list(pictures)
