"""Heads: feature maps in, predictions and losses out."""

from visionpatch.heads.anchor_head import AnchorHead
from visionpatch.heads.anchors import AnchorGenerator
from visionpatch.heads.bbox_head import ConvFCBBoxHead, Shared2FCBBoxHead
from visionpatch.heads.box_coder import DeltaXYWHBBoxCoder
from visionpatch.heads.cascade import CascadeRoIHead
from visionpatch.heads.cls_head import ClsHead
from visionpatch.heads.decode_head import DecodeHead
from visionpatch.heads.fcn import FCNHead
from visionpatch.heads.fcn_mask import FCNMaskHead
from visionpatch.heads.few_shot import FewShotHead
from visionpatch.heads.linear_cls import LinearClsHead
from visionpatch.heads.masked_sampling import MaskedSampling
from visionpatch.heads.masked_token import MaskedTokenTransformer
from visionpatch.heads.matching import MaxIoUAssigner, PseudoSampler, RandomSampler
from visionpatch.heads.matching_baselines import AFDNetHead, DescriptorHead, FILNetHead, SiameseHead, TwoChannelHead
from visionpatch.heads.md_frn import MDFRNHead
from visionpatch.heads.mlp_cls import MLPClsHead
from visionpatch.heads.patch_matching import MatchingHead
from visionpatch.heads.prior import PriorHead
from visionpatch.heads.prototype import PrototypeHead
from visionpatch.heads.retina import RetinaHead
from visionpatch.heads.roi import StandardRoIHead
from visionpatch.heads.roi_extractor import RoIAlign, SingleRoIExtractor
from visionpatch.heads.rpn import RPNHead
from visionpatch.heads.sccan import SCCANHead
from visionpatch.heads.semantic_fpn import FPNHead
from visionpatch.heads.unlearned_matching import GradientNCCHead, SIFTHead
from visionpatch.heads.uper import UPerHead

__all__ = [
    "AFDNetHead",
    "AnchorGenerator",
    "AnchorHead",
    "CascadeRoIHead",
    "ClsHead",
    "ConvFCBBoxHead",
    "DecodeHead",
    "DeltaXYWHBBoxCoder",
    "DescriptorHead",
    "FCNHead",
    "FCNMaskHead",
    "FILNetHead",
    "FPNHead",
    "FewShotHead",
    "GradientNCCHead",
    "LinearClsHead",
    "MDFRNHead",
    "MLPClsHead",
    "MaskedSampling",
    "MaskedTokenTransformer",
    "MatchingHead",
    "MaxIoUAssigner",
    "PriorHead",
    "PrototypeHead",
    "PseudoSampler",
    "RPNHead",
    "RandomSampler",
    "RetinaHead",
    "RoIAlign",
    "SCCANHead",
    "SIFTHead",
    "Shared2FCBBoxHead",
    "SiameseHead",
    "SingleRoIExtractor",
    "StandardRoIHead",
    "TwoChannelHead",
    "UPerHead",
]
