"""MaskedTokenGenerator: draws the codes of pictures in parallel and has a tokenizer decode them.

Letters: B pictures, H, W sides of a picture, f factor of the tokenizer, h = ceil(H / f), w = ceil(W / f), c codes at a
point, K codebook size.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.heads.cls_head import hard_targets
from visionpatch.heads.masked_sampling import MaskedSampling, random_mask
from visionpatch.models.feature_cache import FeatureCache
from visionpatch.models.wiring import build
from visionpatch.random_state import mix
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

MODES = ("tensor", "loss", "predict")
# what is used of a tokenizer
TOKENIZER = ("codebook_size", "code_channels", "stride", "encode", "decode", "data_preprocessor")


@MODELS.register_module()
class MaskedTokenGenerator(BaseModel):
    """A tokenizer, which stays as it is, and a transformer that learns what its codes look like together.

    Args:
        tokenizer: an ImageTokenizer or its config; `init_cfg` in it loads its weights.
        transformer: a MaskedTokenTransformer or its config; its codebook_size and code_channels are the tokenizer's.
            With num_classes > 0 the pictures have classes (`gt_label`).
        schedule: how many codes are masked, in training and drawing: "cosine", "uniform", "log", "exp", "pow2" or
            "pow" with another exponent; see `visionpatch.heads.masked_sampling.masked_share`.
        label_smoothing: of the loss.
        label_drop: share of the pictures whose class is not told in training, so that pictures can be drawn without a
            class, and with `guidance`.
        steps, choice_temperature, temperature, top_k, guidance: how codes are drawn unless said otherwise, see
            `visionpatch.heads.masked_sampling.MaskedSampling`. A `guidance` beyond 1 follows the class more closely.
        seed: of what "predict" draws.
        cached_pictures: how many pictures' codes to keep in training, see `FeatureCache`; it pays where the same
            pictures come again without augmentation. 0: none.
        data_preprocessor: brings pixels to -1..1, RGB; that of the tokenizer unless given.

    Raises:
        ConfigError: parts that do not fit each other, an argument out of its range.
    """

    def __init__(
        self,
        tokenizer: dict | nn.Module,
        transformer: dict | nn.Module,
        schedule: str = "cosine",
        label_smoothing: float = 0.1,
        label_drop: float = 0.1,
        steps: int = 12,
        choice_temperature: float = 4.5,
        temperature: float = 1.0,
        top_k: int = 0,
        guidance: float = 1.0,
        seed: int = 0,
        cached_pictures: int = 0,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        given, learnt = build(tokenizer), build(transformer)
        _check_parts(given, learnt)
        super().__init__(build(data_preprocessor or given.data_preprocessor), init_cfg)
        self.tokenizer: Any = given.requires_grad_(False).eval()
        self.transformer: Any = learnt
        for name, share in (("label_smoothing", label_smoothing), ("label_drop", label_drop)):
            if not 0 <= share < 1:
                raise ConfigError(f"model.{name} = {share}; expected 0 to below 1")
        self.label_smoothing, self.label_drop, self.seed = label_smoothing, label_drop, seed
        self.cache = FeatureCache(cached_pictures)
        self.sampling = MaskedSampling(steps, schedule, choice_temperature, temperature, top_k, guidance)
        self._check_guidance(self.sampling)

    @property
    def num_classes(self) -> int | None:
        """Of the pictures; None where classes play no part, so that pictures of any data set will do."""
        return self.transformer.num_classes or None

    def train(self, mode: bool = True) -> "MaskedTokenGenerator":
        super().train(mode)
        self.tokenizer.eval()
        return self

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor") -> Any:
        """A batch (B, 3, H, W) in -1..1.

        mode "tensor": logits (B, h, w, c, K) of its codes, all of them shown, without classes. "loss": the dict of
        `MaskedTokenTransformer.loss`, with codes masked and labels dropped at random. "predict": the samples, each
        with a picture drawn for its class as `pred_image` (3, f*h, f*w), its codes `pred_codes` (h, w, c) and the given
        picture as `gt_image` (3, H, W), pictures RGB in 0..255. The given picture has no influence on the drawn one:
        that follows from `seed` and the `sample_idx` and `img_id` of the sample (the `img_path`, or the place in the
        batch, of one that has neither), whatever the batch. Where pictures have classes, "loss" and "predict" need the
        `gt_label` of each sample.

        Raises:
            DataError: pictures of another size than the map of the transformer, a missing `gt_label`.
            BadSampleError: a label out of range.
        """
        if mode not in MODES:
            raise ConfigError(f'MaskedTokenGenerator: mode = "{mode}"{nearest(mode, MODES)}')
        if mode == "tensor":
            return self.transformer(self.encode(inputs))
        samples = data_samples or [DataSample() for _ in inputs]
        labels = hard_targets(samples, self.num_classes).to(inputs.device) if self.num_classes else None
        if mode == "predict":
            return self._predict(inputs, labels, samples)
        codes = self.encode(inputs)
        if labels is not None:
            dropped = torch.rand(len(labels), device=labels.device) < self.label_drop
            labels = labels.masked_fill(dropped, self.transformer.num_classes)
        return self.transformer.loss(codes, random_mask(codes, self.sampling.schedule), labels, self.label_smoothing)

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in -1..1 -> codes (B, h, w, c).

        Raises:
            DataError: pictures that do not give maps of the transformer's size.
        """
        f, size = self.tokenizer.stride, self.transformer.map_size
        found = tuple(-(-side // f) for side in image.shape[-2:])
        if image.ndim != 4 or found != size:
            raise DataError(
                f"pictures of shape {tuple(image.shape)} give maps of {found} codes, but model.transformer.map_size = "
                f"{size}; give pictures (B, 3, {f * size[0]}, {f * size[1]}), or set map_size"
            )
        return self.cache(Encoder(self.tokenizer), image)[0]

    def generate(
        self,
        num: int,
        labels: Tensor | Sequence[int] | None = None,
        sampling: MaskedSampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw `num` pictures (num, 3, f*h, f*w), RGB, about -1..1 and not clamped.

        Args:
            num: how many, all at once.
            labels: their classes (num,); None: pictures of no class in particular.
            sampling: how the codes are drawn, such as ``dataclasses.replace(model.sampling, steps=8)``; None:
                `model.sampling`. Both temperatures 0 leave nothing to chance.
            generator: gives each picture its seed; the first pictures of two equal generators are the same, whatever
                `num`. None: torch's own.

        Raises:
            ConfigError: an argument out of its range; guidance, or no labels, with a model that has only learnt
                pictures with their class.
            DataError: another number of labels, or one out of range.
        """
        return self._decode(self.generate_codes(num, labels, sampling, generator))

    def generate_codes(
        self,
        num: int,
        labels: Tensor | Sequence[int] | None = None,
        sampling: MaskedSampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The codes (num, h, w, c) of the pictures that `generate` gives."""
        if num < 1:
            raise ConfigError(f"num = {num}; expected how many pictures to draw, 1 or more")
        return self._complete(self._all_hidden(num), self._labels(labels, num), sampling, _seeds(num, generator))

    def inpaint(
        self,
        image: Tensor,
        mask: Tensor,
        labels: Tensor | Sequence[int] | None = None,
        sampling: MaskedSampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Pictures (B, 3, H, W) in -1..1 with the pixels of `mask` drawn anew and all others kept.

        The codes of every cell of f x f pixels that the mask touches are drawn, given all other codes.

        Args:
            mask: (B, H, W) bool, True where to draw.
            labels: classes (B,); None: of no class in particular.
            sampling, generator: as of `generate`.

        Raises:
            DataError: pictures of another size than the transformer's, a mask of another shape or type.
            ConfigError: as of `generate`.
        """
        codes = self.encode(image)
        expected = (len(image), *image.shape[-2:])
        if tuple(mask.shape) != expected or mask.dtype != torch.bool:
            kind = str(mask.dtype).removeprefix("torch.")
            raise DataError(f"a mask of shape {tuple(mask.shape)} and type {kind}; expected bool, shape {expected}")
        codes = codes.masked_fill(self._touched(mask).unsqueeze(-1), self.transformer.hidden)
        codes = self._complete(codes, self._labels(labels, len(image)), sampling, _seeds(len(image), generator))
        return torch.where(mask.unsqueeze(1), self._decode(codes, image.shape[-2:]), image)

    def _predict(self, inputs: Tensor, labels: Tensor | None, samples: list[DataSample]) -> list[DataSample]:
        seeds = [mix(self.seed, _identity(sample, place)) for place, sample in enumerate(samples)]
        codes = self._complete(self._all_hidden(len(samples)), labels, None, seeds)
        for sample, one, given, code in zip(samples, self._decode(codes), inputs, codes, strict=True):
            height, width = sample.get("img_shape", given.shape[-2:])[:2]
            pred, gt = ((x.float() + 1) * 127.5 for x in (one, given[:, :height, :width]))
            sample.pred_image, sample.gt_image = pred.clamp(0, 255), gt.clamp(0, 255)
            sample.set_data({"pred_codes": code})
        return samples

    def _complete(
        self, codes: Tensor, labels: Tensor | None, sampling: MaskedSampling | None, seeds: Sequence[int]
    ) -> Tensor:
        """Codes (B, h, w, c) with the hidden ones drawn, dropout off."""
        sampling = sampling or self.sampling
        self._check_guidance(sampling)
        with evaluating(self.transformer):
            return sampling.complete(self._logits(labels, sampling.guidance), codes, self.transformer.hidden, seeds)

    def _logits(self, labels: Tensor | None, guidance: float) -> Callable[[Tensor], Tensor]:
        """The function codes -> logits, guided where `guidance` is not 1."""
        if labels is None or guidance == 1:
            return partial(self.transformer, labels=labels)
        both = torch.cat([labels, torch.full_like(labels, self.transformer.num_classes)])

        def guided(codes: Tensor) -> Tensor:
            told, untold = self.transformer(codes.repeat(2, 1, 1, 1), both).chunk(2)
            return untold + guidance * (told - untold)

        return guided

    @torch.no_grad()
    def _decode(self, codes: Tensor, size: Sequence[int] | None = None) -> Tensor:
        return self.tokenizer.decode(codes, size)

    def _all_hidden(self, num: int) -> Tensor:
        shape = (num, *self.transformer.map_size, self.transformer.code_channels)
        return torch.full(shape, self.transformer.hidden, device=self.transformer.positions.device)

    def _touched(self, mask: Tensor) -> Tensor:
        """Pixels (B, H, W) -> the cells that hold one of them, (B, h, w)."""
        f = self.tokenizer.stride
        bottom, right = (-side % f for side in mask.shape[-2:])
        return F.max_pool2d(F.pad(mask.float(), (0, right, 0, bottom)), f) > 0

    def _labels(self, labels: Tensor | Sequence[int] | None, num: int) -> Tensor | None:
        """(num,) int64 on the device; None: of no class."""
        if labels is None:
            if self.num_classes and not self.label_drop:
                raise ConfigError("model.label_drop = 0: the model draws pictures of a class only; give labels")
            return None
        if not self.num_classes:
            raise ConfigError("labels are given, but model.transformer.num_classes = 0: the model knows no classes")
        found = torch.as_tensor(labels, device=self.transformer.positions.device)
        if found.shape != (num,) or found.dtype != torch.int64:
            raise DataError(f"labels = {labels}; expected {num} integers, one for each picture")
        if found.min() < 0 or found.max() >= self.transformer.num_classes:
            raise DataError(f"labels = {found.tolist()}; classes run from 0 to {self.transformer.num_classes - 1}")
        return found

    def _check_guidance(self, sampling: MaskedSampling) -> None:
        if sampling.guidance != 1 and not (self.num_classes and self.label_drop):
            raise ConfigError(
                f"guidance = {sampling.guidance} compares pictures with and without their class; it needs "
                f"model.transformer.num_classes > 0 (it is {self.transformer.num_classes}) and model.label_drop > 0 "
                f"(it is {self.label_drop})"
            )


class Encoder(nn.Module):
    """What of a tokenizer makes codes, as `FeatureCache` calls a backbone."""

    def __init__(self, tokenizer: nn.Module) -> None:
        super().__init__()
        self.tokenizer: Any = tokenizer

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.tokenizer.encode(image),)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within the context the module is in evaluation mode."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _seeds(num: int, generator: torch.Generator | None) -> list[int]:
    device = "cpu" if generator is None else generator.device
    return [int(torch.randint(2**62, (), generator=generator, device=device)) for _ in range(num)]


def _identity(sample: DataSample, place: int) -> int:
    """A number that stands for the sample, the same in every batch and, without `img_path`, on every machine."""
    known = [str(sample.get(key)) for key in ("sample_idx", "img_id") if key in sample]
    name = "|".join(known) or str(sample.get("img_path", place))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _check_parts(tokenizer: Any, transformer: Any) -> None:
    lacking = [name for name in TOKENIZER if not hasattr(tokenizer, name)]
    if lacking:
        raise ConfigError(
            f"model.tokenizer = {type(tokenizer).__name__} has no {lacking[0]}; expected an ImageTokenizer"
        )
    if not hasattr(transformer, "map_size"):
        raise ConfigError(f"model.transformer = {type(transformer).__name__}; expected a MaskedTokenTransformer")
    for name in ("codebook_size", "code_channels"):
        given, expected = getattr(transformer, name), getattr(tokenizer, name)
        if given != expected:
            raise ConfigError(
                f"model.transformer.{name} = {given}, but the tokenizer has {expected}; set it to {expected}"
            )
