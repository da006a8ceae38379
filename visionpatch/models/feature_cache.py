"""FeatureCache: what a frozen backbone found in a picture, kept for the next time the same picture comes."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor, nn

from visionpatch.errors import ConfigError


class FeatureCache:
    """The maps of up to `pictures` pictures, the longest unused forgotten first.

    Pictures are known by their content, so any augmentation is safe; it pays where few different ones occur. Nothing
    is kept across a change of the backbone's weights or statistics, a move to another device, or of autocast.

    Args:
        pictures: how many; 0 keeps nothing.

    Raises:
        ConfigError: a negative number.
    """

    def __init__(self, pictures: int) -> None:
        if pictures < 0:
            raise ConfigError(f"cached_pictures = {pictures}; expected how many pictures' features to keep, 0 for none")
        self.pictures = pictures
        self._kept: OrderedDict[bytes, tuple[Tensor, ...]] = OrderedDict()
        self._state: Hashable = None

    @torch.no_grad()
    def __call__(self, backbone: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """`backbone(images)` of a batch (B, C, H, W), without gradient; only pictures not seen before are computed."""
        if not self.pictures or images.is_meta:
            return backbone(images)
        self._forget_if_changed(backbone, images)
        names = [_digest(image) for image in images]
        known = {name: self._kept[name] for name in names if name in self._kept}
        for name, image in zip(names, images):
            if name not in known:  # alone: the last bits must not depend on what else was missing
                maps = backbone(image[None].contiguous(memory_format=torch.channels_last))
                known[name] = tuple(x[0].clone() for x in maps)
        for name in names:
            self._kept[name] = known[name]
            self._kept.move_to_end(name)
        while len(self._kept) > self.pictures:
            self._kept.popitem(last=False)
        return tuple(torch.stack(level) for level in zip(*(known[name] for name in names)))

    def __deepcopy__(self, memo: dict) -> "FeatureCache":
        return FeatureCache(self.pictures)

    def __len__(self) -> int:
        return len(self._kept)

    def _forget_if_changed(self, backbone: nn.Module, images: Tensor) -> None:
        tensors = [*backbone.parameters(), *backbone.buffers()]
        kind = images.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        state = (autocast, images.device, images.dtype, *((x.data_ptr(), x._version) for x in tensors))
        if state != self._state:
            self._kept.clear()
            self._state = state


def _digest(image: Tensor) -> bytes:
    """A name of the picture's values and size."""
    values = image.detach().cpu().permute(1, 2, 0).contiguous()
    digest = hashlib.blake2b(values.view(torch.uint8).numpy().data, digest_size=16)
    digest.update(str(tuple(values.shape)).encode())
    return digest.digest()
