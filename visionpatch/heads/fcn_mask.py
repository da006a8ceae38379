"""FCNMaskHead: the mask of every object, a small map within its box.

He et al., "Mask R-CNN", ICCV 2017, section 3 and figure 4. State-dict names are mmdet's.
Letters: R boxes, P positive ones, K classes, C channels, M side of a mask, G objects, H, W of a picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.heads.box_coder import clip_boxes
from visionpatch.layers.conv_module import ConvModule
from visionpatch.ops import roi_align
from visionpatch.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(nn.Module):
    """3x3 convolutions, a transposed one that doubles the size, and a 1x1 one to a map for every class.

    Args:
        num_convs: number of 3x3 convolutions.
        roi_feat_size: side of the pooled features; the masks have M = 2 `roi_feat_size`.
        in_channels: channels of the pooled features.
        conv_kernel_size: of the convolutions, odd.
        conv_out_channels: channels of the convolutions.
        num_classes: number of classes K.
        class_agnostic: one map for all classes.
        norm_cfg: norm of the convolutions; None for none.
        loss_mask: config; None: mean binary cross entropy.
    """

    def __init__(
        self,
        num_convs: int = 4,
        roi_feat_size: int = 14,
        in_channels: int = 256,
        conv_kernel_size: int = 3,
        conv_out_channels: int = 256,
        num_classes: int = 80,
        class_agnostic: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        loss_mask: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.roi_feat_size, self.num_classes = in_channels, roi_feat_size, num_classes
        self.class_agnostic = class_agnostic
        self.loss_mask = MODELS.build(dict(loss_mask or dict(type="CrossEntropyLoss", use_mask=True)))
        if not getattr(self.loss_mask, "use_mask", False):
            raise ConfigError("FCNMaskHead.loss_mask: set use_mask=True; every class has a mask of its own")
        widths = (in_channels, *(conv_out_channels,) * num_convs)
        half = conv_kernel_size // 2
        self.convs = nn.ModuleList(
            ConvModule(c, conv_out_channels, conv_kernel_size, padding=half, norm_cfg=norm_cfg) for c in widths[:-1]
        )
        self.upsample = nn.ConvTranspose2d(widths[-1], conv_out_channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(conv_out_channels, 1 if class_agnostic else num_classes, 1)
        for layer in (self.upsample, self.conv_logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (R, C, S, S) -> logits (R, K, M, M)."""
        if x.shape[1] != self.in_channels:
            raise ConfigError(
                f"FCNMaskHead: in_channels={self.in_channels}, but the pooled features have {x.shape[1]} channels; "
                f"set in_channels={x.shape[1]}"
            )
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(F.relu(self.upsample(x)))

    def own_maps(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of `logits` (R, K, M, M) the map (R, M, M) of each box's class."""
        if self.class_agnostic:
            return logits[:, 0]
        return logits[torch.arange(len(labels), device=labels.device), labels]

    def loss(self, logits: Tensor, labels: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``loss_mask`` of positive boxes: `logits` (P, K, M, M), `labels` (P,), `targets` (P, M, M) of 0 and 1."""
        maps = self.own_maps(logits, labels).float()
        return {"loss_mask": self.loss_mask(maps, targets) if len(maps) else maps.sum()}


def mask_targets(boxes: Sequence[Tensor], objects: Sequence[Tensor], masks: Sequence[Tensor], side: int) -> Tensor:
    """What the positive boxes of a batch have to learn.

    Of every picture its positive `boxes` (P_i, 4), the index (P_i,) of the object of each, and the `masks` (G_i, H, W)
    of its objects -> (P, side, side), 1.0 where RoIAlign of the object's mask gives at least 0.5.
    """
    made = []
    for own, index, mask in zip(boxes, objects, masks, strict=True):
        if len(own) == 0:
            made.append(own.new_zeros(0, side, side))
            continue
        used, rank = index.unique(return_inverse=True)
        rois = torch.cat([rank[:, None].to(own.dtype), clip_boxes(own, mask.shape[-2:])], 1)
        pooled = roi_align(mask[used].unsqueeze(1).to(own.dtype), rois, (side, side), 1.0, 0, "avg", True)
        made.append((pooled[:, 0] >= 0.5).to(own.dtype))
    return torch.cat(made)


def paste_masks(masks: Tensor, boxes: Tensor, shape: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Masks within their boxes -> masks of a whole picture of `shape` (H, W).

    `masks` (n, M, M) of probabilities and `boxes` (n, 4) -> (n, H, W) bool: the bilinear value at the pixel's centre,
    zero outside the box, is at least `threshold`. Pixels more than one off the box are False.
    """
    height, width = shape
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    low, high = boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1
    corners = torch.cat([low.clamp(min=0), torch.minimum(high, high.new_tensor([width, height]))], 1).long().tolist()
    for mask, box, whole, (x1, y1, x2, y2) in zip(masks, boxes, pasted, corners, strict=True):
        if x2 <= x1 or y2 <= y1:
            continue
        x, y = (
            2 * (torch.arange(first, last, device=box.device) + 0.5 - box[axis]) / (box[axis + 2] - box[axis]) - 1
            for axis, (first, last) in enumerate(((x1, x2), (y1, y2)))
        )
        x, y = (torch.where(p.isfinite(), p, 0.0) for p in (x, y))  # a box without width or height
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1)
        value = F.grid_sample(mask[None, None].float(), grid[None], mode="bilinear", align_corners=False)
        whole[y1:y2, x1:x2] = value[0, 0] >= threshold
    return pasted
