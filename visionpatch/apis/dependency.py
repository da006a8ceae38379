"""Dependencies between the patches of a picture, as a DependencyViT sees them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from mmengine.config import Config
from numpy import ndarray

from visionpatch.apis.inferencer import Inferencer, Picture, describe
from visionpatch.backbones.dependency_vit import DependencyViT
from visionpatch.errors import ConfigError
from visionpatch.layers.dependency_tree import DependencyTree, decode_tree, tree_parts
from visionpatch.registry import MODELS
from visionpatch.visualization.dependency import draw_dependency


@dataclass(frozen=True)
class PictureDependency:
    """Of one picture; N = h w tokens.

    Attributes:
        image: (H, W, 3) uint8 BGR, the picture as the network saw it: resized and cropped by the config's pipeline.
        grid, stride: (h, w) of the tokens, pixels a token.
        tree: the decoded tree.
        received: (N,) what each token received in all blocks.
        saliency: (H, W) in 0..1.
    """

    image: ndarray
    grid: tuple[int, int]
    stride: int
    tree: DependencyTree
    received: ndarray
    saliency: ndarray

    def parts(self, number: int) -> ndarray:
        """(N,) int64: up to `number` parts by hub cut, see `visionpatch.layers.dependency_tree.tree_parts`."""
        return tree_parts(self.tree, self.received, number)

    def draw(self, number: int = 5, opacity: float = 0.5) -> ndarray:
        """The picture, its saliency, `number` parts and its tree side by side (H', W', 3) BGR."""
        tree, parts = self.tree, self.parts(number)
        return draw_dependency(
            self.image, tree.parent, tree.depth, parts, self.saliency, self.grid, self.stride, opacity
        )


class DependencyInferencer(Inferencer):
    """The tree, parts and saliency of pictures by any model whose backbone is a DependencyViT.

    Arguments are those of `Inferencer`.

    Raises:
        ConfigError: a model with another backbone.
    """

    @classmethod
    def fits(cls, cfg: Config) -> bool:
        kind = ((cfg.get("model") or {}).get("backbone") or {}).get("type")
        return kind is not None and MODELS.get(kind) is DependencyViT

    @classmethod
    def check(cls, cfg: Config) -> None:
        if not cls.fits(cfg):
            kind = ((cfg.get("model") or {}).get("backbone") or {}).get("type")
            raise ConfigError(f"{cfg.filename}: {cls.__name__} needs a model on a DependencyViT; this one has {kind}")

    def analyse(self, picture: Picture, by: Literal["message", "received"] = "message") -> PictureDependency:
        """A path, or an array (H, W, 3) BGR uint8; `by`: which reading of saliency, see `DependencyInfo.saliency`.

        Raises:
            BadSampleError: the picture cannot be read.
        """
        packed: Any = self.pipeline(describe(picture, 0))
        given: Any = packed["inputs"]  # (3, H, W)
        height, width = given.shape[1:]
        backbone: Any = self.model.backbone
        with torch.inference_mode():
            data = self.model.data_preprocessor(dict(inputs=[given], data_samples=[packed["data_samples"]]))
            info = backbone.dependency(data["inputs"][:, :, :height, :width])  # without padding
        stride, grid = backbone.patch_size, info.grid
        saliency = info.saliency((grid[0] * stride, grid[1] * stride), by)[0, :height, :width]
        image = np.ascontiguousarray(given.permute(1, 2, 0).cpu().numpy())
        tree, received = decode_tree(info.total()[0]), info.received()[0].double().cpu().numpy()
        return PictureDependency(image, grid, stride, tree, received, saliency.cpu().numpy())
