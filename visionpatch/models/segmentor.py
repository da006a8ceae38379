"""Semantic segmentation: a backbone, perhaps a neck, a decode head and auxiliary heads."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.resize import resize
from visionpatch.models.wiring import build, check_channels
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

TEST_KEYS = ("mode", "crop_size", "stride", "tta", "keep_logits")


@MODELS.register_module()
class Segmentor(BaseModel):
    """Every pixel one of `decode_head.num_classes` classes; named EncoderDecoder in OpenMMLab, with its state-dict
    names.

    Args:
        backbone, neck, decode_head, data_preprocessor: modules or configs of them; without a neck the heads read the
            backbone; several necks in a list follow each other.
        auxiliary_head: heads that only train; they read the neck's maps, or the backbone's without a neck.
        test_cfg: `mode`: "whole" (default) or "slide", which averages windows of `crop_size` at every `stride`, each
            (height, width) in pixels of the network's input. `tta`: dict(scales=(...), flip=bool), averages
            class probabilities over resized and mirrored inputs. `keep_logits`: keep class scores in the result.

    Raises:
        ConfigError: a head whose `in_channels` do not fit, or an unknown key of `test_cfg`.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        decode_head: dict | nn.Module,
        neck: dict | nn.Module | Sequence[dict | nn.Module] | None = None,
        auxiliary_head: dict | nn.Module | Sequence[dict | nn.Module] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build(data_preprocessor or dict(type="DataPreprocessor")), init_cfg)
        self.backbone = build(backbone)
        self.neck = build(neck) if neck is not None else None
        self.decode_head = build(decode_head)
        if isinstance(auxiliary_head, Sequence):
            self.auxiliary_head = nn.ModuleList(build(head) for head in auxiliary_head)
        elif auxiliary_head is not None:
            self.auxiliary_head = build(auxiliary_head)
        self.test_cfg = _checked_test_cfg(test_cfg)
        if self.neck is not None:
            check_channels("model.neck", self.neck, self.backbone)
        for name, head in (("decode_head", self.decode_head), *self._auxiliary_heads()):
            check_channels(f"model.{name}", head, self.neck or self.backbone)

    @property
    def num_classes(self) -> int:
        return self.decode_head.num_classes

    def _auxiliary_heads(self) -> Iterator[tuple[str, Any]]:
        heads = getattr(self, "auxiliary_head", None)
        if isinstance(heads, nn.ModuleList):
            yield from ((f"auxiliary_head.{index}", head) for index, head in enumerate(heads))
        elif heads is not None:
            yield "auxiliary_head", heads

    def extract_features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W), normalised, to the maps that the heads read."""
        features = self.backbone(inputs)
        return self.neck(features) if self.neck is not None else features

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor") -> Any:
        """A normalised batch (B, C, H, W).

        mode "tensor": class scores of the decode head, at its own resolution; "loss": dict of losses; "predict": the
        samples with `pred_sem_seg` of their original size.
        """
        if mode == "tensor":
            return self.decode_head(self.extract_features(inputs))
        if mode == "loss":
            return self._loss(inputs, data_samples or [])
        if mode == "predict":
            return self._predict(inputs, data_samples)
        raise ConfigError(f'Segmentor: mode = "{mode}"{nearest(mode, ("tensor", "loss", "predict"))}')

    def _loss(self, inputs: Tensor, samples: list[DataSample]) -> dict[str, Tensor]:
        features = self.extract_features(inputs)
        losses = {f"decode.{name}": value for name, value in self.decode_head.loss(features, samples).items()}
        for path, head in self._auxiliary_heads():
            prefix = path.replace("auxiliary_head", "aux").replace(".", "_")
            losses |= {f"{prefix}.{name}": value for name, value in head.loss(features, samples).items()}
        return losses

    def _predict(self, inputs: Tensor, samples: list[DataSample] | None) -> list[DataSample]:
        scores = self.scores(inputs)
        results = samples or [DataSample() for _ in inputs]
        for sample, score in zip(results, scores, strict=True):
            height, width = sample.get("img_shape", inputs.shape[-2:])
            score = score[None, :, :height, :width]
            score = resize(score, sample.get("ori_shape", (height, width)), self.decode_head.align_corners)[0]
            sample.pred_sem_seg = PixelData(data=score.argmax(0, keepdim=True))
            if self.test_cfg.get("keep_logits"):
                sample.seg_logits = PixelData(data=score)
        return results

    def scores(self, inputs: Tensor) -> Tensor:
        """Class scores (B, classes, H, W) of a batch; mean probabilities under test-time augmentation."""
        tta = self.test_cfg.get("tta")
        if not tta:
            return self._scores_once(inputs)
        size, total, count = inputs.shape[-2:], inputs.new_zeros(()), 0
        for scale in tta.get("scales", (1.0,)):
            sides = [max(1, round(side * scale)) for side in size]
            x = inputs if scale == 1 else F.interpolate(inputs, sides, mode="bilinear", antialias=scale < 1)
            for flip in (False, True) if tta.get("flip", True) else (False,):
                score = self._scores_once(x.flip(3) if flip else x).softmax(1)
                total = total + resize(score.flip(3) if flip else score, size)
                count += 1
        return total / count

    def _scores_once(self, inputs: Tensor) -> Tensor:
        if self.test_cfg["mode"] == "slide":
            return self._slide(inputs)
        return self._whole(inputs)

    def _whole(self, inputs: Tensor) -> Tensor:
        scores = self.decode_head(self.extract_features(inputs))
        return resize(scores, inputs.shape[-2:], self.decode_head.align_corners)

    def _slide(self, inputs: Tensor) -> Tensor:
        """Mean scores of overlapping windows; the last one of a row or column is moved back inside the image."""
        height, width = inputs.shape[-2:]
        crop, stride = self.test_cfg["crop_size"], self.test_cfg["stride"]
        total = inputs.new_zeros(len(inputs), self.num_classes, height, width)
        count = inputs.new_zeros(1, 1, height, width)
        for y in _window_starts(height, crop[0], stride[0]):
            for x in _window_starts(width, crop[1], stride[1]):
                window = (..., slice(y, y + crop[0]), slice(x, x + crop[1]))
                total[window] += self._whole(inputs[window])
                count[window] += 1
        return total / count


def _window_starts(side: int, crop: int, stride: int) -> list[int]:
    """First pixels of windows of `crop` pixels that cover `side`."""
    last = max(side - crop, 0)
    return [min(start, last) for start in range(0, last + stride, stride)]


def _checked_test_cfg(test_cfg: dict | None) -> dict:
    cfg = dict(mode="whole") | dict(test_cfg or {})
    for key in cfg:
        if key not in TEST_KEYS:
            raise ConfigError(f'model.test_cfg has no key "{key}"{nearest(key, TEST_KEYS)}')
    if cfg["mode"] not in ("whole", "slide"):
        raise ConfigError(f'model.test_cfg.mode = "{cfg["mode"]}"{nearest(str(cfg["mode"]), ("whole", "slide"))}')
    if cfg["mode"] == "slide":
        for key in ("crop_size", "stride"):
            value = cfg.get(key)
            if not isinstance(value, (tuple, list)) or len(value) != 2 or min(value) < 1:
                raise ConfigError(f"model.test_cfg.{key} = {value}; mode slide expects (height, width) in pixels")
    return cfg
