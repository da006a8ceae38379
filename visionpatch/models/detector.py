"""Object detection and instance segmentation: a backbone, a neck, and one head, or proposals and a second stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.models.wiring import build, check_channels, check_levels
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

Part = dict | nn.Module
STAGES = ("rpn", "rpn_proposal", "rcnn")  # parts of a two-stage model's train_cfg; test_cfg has the first and the last


@MODELS.register_module(name=["Detector", "RetinaNet", "FasterRCNN", "MaskRCNN", "CascadeRCNN"])
class Detector(BaseModel):
    """Boxes, and masks where the second stage has a mask head, of `num_classes` classes; state-dict names are mmdet's.

    Args:
        backbone, neck, data_preprocessor: modules or configs of them; without a neck the heads read the backbone;
            several necks in a list follow each other.
        bbox_head: the head of a one-stage model.
        rpn_head, roi_head: those of a two-stage one, instead.
        train_cfg, test_cfg: settings of the head, for heads given as configs; of a two-stage model in parts: ``rpn``,
            ``rcnn`` (for training a cascade a list, one for each of its stages) and, for training, ``rpn_proposal``.

    Raises:
        ConfigError: heads that make neither one stage nor two; an unknown key; parts that do not fit each other.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part | Sequence[Part] | None = None,
        bbox_head: Part | None = None,
        rpn_head: Part | None = None,
        roi_head: Part | None = None,
        data_preprocessor: Part | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build(data_preprocessor or dict(type="DataPreprocessor", pad_size_divisor=32)), init_cfg)
        given = [h is not None for h in (bbox_head, rpn_head, roi_head)]
        if given not in ([True, False, False], [False, True, True]):
            raise ConfigError("Detector: give either bbox_head (one stage), or both rpn_head and roi_head (two stages)")
        self.backbone = build(backbone)
        self.neck = build(neck) if neck is not None else None
        if bbox_head is not None:
            self.bbox_head = _with_cfg(bbox_head, train_cfg=train_cfg, test_cfg=test_cfg)
        else:
            train, test = _parts("train_cfg", train_cfg, STAGES), _parts("test_cfg", test_cfg, STAGES[::2])
            self.rpn_head = _with_cfg(
                rpn_head, train_cfg=train["rpn"], test_cfg=test["rpn"], proposal_cfg=train["rpn_proposal"]
            )
            self.roi_head = _with_cfg(roi_head, train_cfg=train["rcnn"], test_cfg=test["rcnn"])
        self._check()

    @property
    def two_stages(self) -> bool:
        return hasattr(self, "roi_head")

    @property
    def num_classes(self) -> int:
        return self.roi_head.num_classes if self.two_stages else self.bbox_head.num_classes

    def _check(self) -> None:
        """Channels, numbers and strides of the maps against what reads them."""
        source: Any = self.neck or self.backbone
        if self.neck is not None:
            check_channels("model.neck", self.neck, self.backbone)
        name = "rpn_head" if self.two_stages else "bbox_head"
        head = getattr(self, name)
        if hasattr(head, "anchors"):
            path = f"model.{name}.anchor_generator.strides"
            check_levels(f"model.{name}", head.in_channels, path, head.anchors.strides, source, exact=True)
        for stage in getattr(self.roi_head, "stages", ()) if self.two_stages else ():
            for name, extractor in (("bbox", stage.bbox_extractor), ("mask", stage.mask_extractor)):
                path = f"model.roi_head.{name}_roi_extractor{stage.suffix}"
                strides = extractor.featmap_strides
                check_levels(path, extractor.out_channels, f"{path}.featmap_strides", strides, source, exact=False)

    def extract_features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W), normalised, to the maps that the heads read."""
        features = self.backbone(inputs)
        return self.neck(features) if self.neck is not None else features

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor") -> Any:
        """A normalised batch (B, C, H, W).

        mode "tensor": raw outputs of the head, or of the second stage for the proposals of the first; "loss": dict of
        losses; "predict": the samples with `pred_instances` in pixels of the original picture, best first.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ConfigError(f'Detector: mode = "{mode}"{nearest(mode, ("tensor", "loss", "predict"))}')
        features = self.extract_features(inputs)
        samples = data_samples or [DataSample(metainfo=dict(img_shape=tuple(inputs.shape[-2:]))) for _ in inputs]
        if mode == "loss":
            return self._loss(features, samples)
        if mode == "predict":
            for sample, found in zip(samples, self._predict(features, samples), strict=True):
                sample.pred_instances = found
            return samples
        if not self.two_stages:
            return self.bbox_head(features)
        if inputs.is_meta:
            return self._sizes(features)
        proposals = self.rpn_head.predict(features, samples, rescale=False)
        return self.roi_head(features, [found.bboxes for found in proposals], samples)

    def _sizes(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs without values, for counting: as many proposals and masks as one picture can have at most."""
        proposals, masks = (part.test_cfg["max_per_img"] for part in (self.rpn_head, self.roi_head))
        outputs = tuple(self.rpn_head(features))
        for stage in self.roi_head.stages:
            pairs = [(stage.bbox_head, stage.bbox_extractor, proposals), (stage.mask_head, stage.mask_extractor, masks)]
            for head, extractor, number in pairs:
                if head is not None:
                    found = head(features[0].new_zeros(number, head.in_channels, *extractor.output_size))
                    outputs += found if isinstance(found, tuple) else (found,)
        return outputs

    def _loss(self, features: Sequence[Tensor], samples: list[DataSample]) -> dict[str, Any]:
        if not self.two_stages:
            return self.bbox_head.loss(features, samples)
        losses, proposals = self.rpn_head.loss_and_proposals(features, samples)
        return losses | self.roi_head.loss(features, proposals, samples)

    @torch.no_grad()
    def _predict(self, features: Sequence[Tensor], samples: list[DataSample]) -> list[InstanceData]:
        if not self.two_stages:
            return self.bbox_head.predict(features, samples, rescale=True)
        proposals = self.rpn_head.predict(features, samples, rescale=False)
        return self.roi_head.predict(features, proposals, samples, rescale=True)


def _parts(name: str, cfg: Mapping[str, Any] | None, valid: Sequence[str]) -> dict[str, Any]:
    """The settings of both stages; None where there are none."""
    for key in cfg or {}:
        if key not in valid:
            raise ConfigError(f'model.{name} has no key "{key}"{nearest(str(key), valid)}')
    return {**dict.fromkeys(valid), **(cfg or {})}


def _with_cfg(head: Any, **cfg: Any) -> Any:
    """The head itself, or the one its config describes together with the settings given for it."""
    if isinstance(head, nn.Module):
        if any(cfg.values()):
            name = next(name for name, value in cfg.items() if value)
            raise ConfigError(
                f"Detector: {name} is for heads given as configs; give it to {type(head).__name__} itself"
            )
        return head
    return build({**head, **{name: value for name, value in cfg.items() if value is not None}})
