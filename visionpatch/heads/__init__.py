"""Heads: feature maps in, predictions and losses out."""

from visionpatch.heads.decode_head import DecodeHead
from visionpatch.heads.fcn import FCNHead
from visionpatch.heads.linear_cls import LinearClsHead
from visionpatch.heads.semantic_fpn import FPNHead
from visionpatch.heads.uper import UPerHead

__all__ = ["DecodeHead", "FCNHead", "FPNHead", "LinearClsHead", "UPerHead"]
