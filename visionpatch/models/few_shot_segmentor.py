"""FewShotSegmentor: the pixels of a query that belong to the class a few annotated pictures show.

Letters: B queries, K shots (annotated pictures) of a query's support set, C channels, H, W sizes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.layers.resize import resize
from visionpatch.models.feature_cache import FeatureCache
from visionpatch.models.wiring import build, check_channels
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

Encoded = Mapping[str, Any]  # an encoded support set, prepared or not, see `visionpatch.heads.FewShotHead`
MODES = ("tensor", "loss", "predict")
TEST_KEYS, RESIZES = ("resize", "keep_logits"), ("direct", "square")


@MODELS.register_module()
class FewShotSegmentor(BaseModel):
    """A backbone, perhaps a neck, and a head that compares a query with its support set.

    Pictures of one size go through the backbone together, others apart, and nothing is padded to a common size: a
    query's result depends neither on the batch it is in nor on the sizes of its support.

    Args:
        backbone, neck, decode_head, data_preprocessor: modules or configs of them; the head is one of SCCANHead,
            PrototypeHead, PriorHead. The data preprocessor is FewShotDataPreprocessor unless given.
        freeze_backbone: the backbone never trains, its batch norms keep their statistics, no graph is built. Published.
        cached_pictures: how many pictures' features to keep, see `FeatureCache`. Episodes draw the same few pictures
            again and again, so evaluation, and training with few augmentations, skip the backbone. 0: none.
        test_cfg: `resize`, how logits come back to the size of the file: "direct" (default), for inputs that were
            resized to `img_shape` and perhaps padded at the bottom and right; "square", as published for square inputs:
            the whole input is resized to a square of the file's longer side and cut to its size. `keep_logits`: keep
            them in the result.

    Raises:
        ConfigError: parts that do not fit each other, or an unknown key or value of `test_cfg`.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        decode_head: dict | nn.Module,
        neck: dict | nn.Module | Sequence[dict | nn.Module] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        freeze_backbone: bool = True,
        cached_pictures: int = 0,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build(data_preprocessor or dict(type="FewShotDataPreprocessor")), init_cfg)
        self.backbone = build(backbone)
        self.neck = build(neck) if neck is not None else None
        self.decode_head = build(decode_head)
        self.freeze_backbone = freeze_backbone
        self.test_cfg = _checked_test_cfg(test_cfg)
        if self.neck is not None:
            check_channels("model.neck", self.neck, self.backbone)
        check_channels("model.decode_head", self.decode_head, self.neck or self.backbone)
        self.cache = FeatureCache(cached_pictures)
        if cached_pictures and not freeze_backbone:
            raise ConfigError(
                f"model.cached_pictures = {cached_pictures} keeps features of a backbone that does not train; set "
                "freeze_backbone = True, or cached_pictures = 0"
            )
        if freeze_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "FewShotSegmentor":
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[DataSample] | None = None, mode: str = "tensor"
    ) -> Any:
        """Normalised queries, a batch (B, C, H, W) or, where sizes differ, a list; their samples hold the supports.

        mode "tensor": logits (2, H, W) of each query, stacked where sizes agree; without samples each picture is its
        own support with a full mask, which serves to count operations. "loss": dict of losses. "predict": the samples
        with `pred_sem_seg` (1, H, W), 1 where the class is, at their original size.

        Raises:
            DataError: a sample without supports, a support whose mask has another size than its picture or values
                other than 0, 1 and 255.
        """
        if mode not in MODES:
            raise ConfigError(f'FewShotSegmentor: mode = "{mode}"{nearest(mode, MODES)}')
        samples = data_samples or [_own_support(image) for image in inputs]
        groups, support = self._encode(inputs, [_shots(sample) for sample in samples])
        if mode == "loss":
            return self._loss(groups, support, samples)
        logits = self._logits(groups, support, inputs)
        if mode == "predict":
            return [self._finish(sample, one) for sample, one in zip(samples, logits, strict=True)]
        return torch.stack(logits) if len({one.shape for one in logits}) == 1 else logits

    def encode_support(self, images: Sequence[Tensor], masks: Sequence[Tensor]) -> dict[str, Tensor]:
        """Normalised pictures (C, h, w) and masks (h, w) of one class to an encoded set, for `predict`.

        Masks hold 1 for the class, 0 for the rest and 255 for unknown. Sizes may differ from picture to picture. The
        first axis of every tensor in the result is the shot.

        Raises:
            DataError: no picture; a mask of another size than its picture or with another value.
        """
        if len(images) != len(masks):
            raise DataError(f"{len(images)} support pictures with {len(masks)} masks; give one mask a picture")
        shots = [
            DataSample(image=image, gt_sem_seg=PixelData(data=mask.reshape(1, *mask.shape[-2:])))
            for image, mask in zip(images, masks)
        ]
        return self._encode([], [shots])[1][0]

    def predict(
        self, inputs: Tensor | Sequence[Tensor], support: Encoded | Sequence[Encoded], samples: list[DataSample] | None
    ) -> list[DataSample]:
        """As forward with mode "predict", of normalised queries whose support was encoded before: one set for all, or
        one a query."""
        sets = [support] * len(inputs) if isinstance(support, Mapping) else list(support)
        groups, _ = self._encode(inputs, [])
        results = samples or [DataSample() for _ in inputs]
        logits = self._logits(groups, sets, inputs)
        return [self._finish(sample, one) for sample, one in zip(results, logits, strict=True)]

    def extract_features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W), normalised, to the maps that the head reads."""
        features = self.cache(self.backbone, inputs) if self.freeze_backbone else self.backbone(inputs)
        return self.neck(features) if self.neck is not None else features

    def _encode(
        self, queries: Tensor | Sequence[Tensor], supports: Sequence[list[DataSample]]
    ) -> tuple[list[tuple[list[int], tuple[Tensor, ...]]], list[dict[str, Tensor]]]:
        """Groups (indices, maps) of queries of one size, and the encoded set of each list of shots.

        Lists that are one object are encoded once and give one object.
        """
        lists = {id(shots): shots for shots in supports}
        shots = [shot for one in lists.values() for shot in one]
        images = [*queries, *(shot.image for shot in shots)]
        groups: list[tuple[list[int], tuple[Tensor, ...]]] = []
        encoded: dict[int, dict[str, Tensor]] = {}
        for members in _of_one_size(images):
            batch = torch.stack([images[i] for i in members])
            maps = self.extract_features(batch.contiguous(memory_format=torch.channels_last))
            asked = [i for i in members if i < len(queries)]
            if asked:
                groups.append((asked, tuple(x[: len(asked)] for x in maps)))
            shown = [i - len(queries) for i in members[len(asked) :]]
            if shown:
                masks = _stacked_masks([shots[i] for i in shown])
                found = self.decode_head.encode_support(tuple(x[len(asked) :] for x in maps), masks)
                encoded |= {i: {k: x[at : at + 1] for k, x in found.items()} for at, i in enumerate(shown)}
        parts = iter(encoded[i] for i in range(len(shots)))
        sets = {key: _joined([next(parts) for _ in one]) for key, one in lists.items()}
        return groups, [sets[id(one)] for one in supports]

    def _loss(self, groups: Sequence, support: Sequence[Encoded], samples: list[DataSample]) -> dict[str, Tensor]:
        """Mean over the queries of the head's losses."""
        total: dict[str, Any] = {}
        for members, maps in groups:
            found = self.decode_head.loss(maps, [support[i] for i in members], [samples[i] for i in members])
            for name, value in found.items():
                key = f"decode.{name}"
                total[key] = total.get(key, 0) + value * (len(members) / len(samples))
        return total

    def _logits(self, groups: Sequence, support: Sequence[Encoded], queries: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """(2, H, W) of each query, at its size."""
        found: dict[int, Tensor] = {}
        for members, maps in groups:
            size = queries[members[0]].shape[-2:]
            found |= zip(members, self.decode_head(maps, [support[i] for i in members], size))
        return [found[i] for i in range(len(queries))]

    def _finish(self, sample: DataSample, logits: Tensor) -> DataSample:
        """The prediction at the size of the file."""
        height, width = sample.get("img_shape", logits.shape[-2:])[:2]
        original = tuple(sample.get("ori_shape", (height, width)))[:2]
        if self.test_cfg["resize"] == "square":
            if logits.shape[-1] != logits.shape[-2]:
                raise ConfigError(
                    f'{sample.where()}: model.test_cfg.resize = "square" needs square inputs, not '
                    f'{tuple(logits.shape[-2:])}; let the pipeline pad to a square, or set resize = "direct"'
                )
            logits = resize(logits[None], (max(original),) * 2, align_corners=True)[0]
            logits = logits[:, : original[0], : original[1]]
        else:
            logits = resize(logits[None, :, :height, :width], original, align_corners=True)[0]
        sample.pred_sem_seg = PixelData(data=logits.argmax(0, keepdim=True))
        if self.test_cfg.get("keep_logits"):
            sample.seg_logits = PixelData(data=logits)
        return sample


def _shots(sample: DataSample) -> list[DataSample]:
    if "support" not in sample or not sample.support:
        raise DataError(f"{sample.where()}: no support picture (shot = 0); give at least one with its mask")
    return sample.support


def _stacked_masks(shots: Sequence[DataSample]) -> Tensor:
    """Masks (K, h, w) of pictures of one size."""
    for shot in shots:
        if "gt_sem_seg" not in shot:
            raise DataError(f"{shot.where()}: a support picture without mask (gt_sem_seg)")
        sizes = tuple(shot.gt_sem_seg.data.shape[-2:]), tuple(shot.image.shape[-2:])
        if sizes[0] != sizes[1]:
            raise DataError(
                f"{shot.where()}: the support mask is {sizes[0][0]} x {sizes[0][1]} pixels (height x width), its "
                f"picture {sizes[1][0]} x {sizes[1][1]}; give a mask of the picture's size"
            )
    masks = torch.stack([shot.gt_sem_seg.data.squeeze(0) for shot in shots])
    wrong = (masks != 0) & (masks != 1) & (masks != 255)
    if not masks.is_meta and wrong.any():
        first = int(wrong.flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"{shots[first].where()}: value {int(masks[first][wrong[first]].max())} in a support mask; expected 1 for "
            "the class, 0 for everything else, 255 for unknown"
        )
    return masks


def _of_one_size(images: Sequence[Tensor]) -> Iterator[list[int]]:
    """Ascending indices of the images of each size."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(tuple(image.shape), []).append(index)
    yield from groups.values()


def _joined(shots: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return shots[0] if len(shots) == 1 else {key: torch.cat([one[key] for one in shots]) for key in shots[0]}


def _own_support(image: Tensor) -> DataSample:
    mask = torch.ones_like(image[:1], dtype=torch.uint8)
    shot = DataSample(image=image, gt_sem_seg=PixelData(data=mask))
    return DataSample(support=[shot])


def _checked_test_cfg(test_cfg: dict | None) -> dict:
    cfg = dict(resize="direct") | dict(test_cfg or {})
    for key in cfg:
        if key not in TEST_KEYS:
            raise ConfigError(f'model.test_cfg has no key "{key}"{nearest(key, TEST_KEYS)}')
    if cfg["resize"] not in RESIZES:
        raise ConfigError(f'model.test_cfg.resize = "{cfg["resize"]}"{nearest(str(cfg["resize"]), RESIZES)}')
    return cfg
