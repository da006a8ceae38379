"""ImageTokenizer: pictures to discrete codes and back.

Letters: B batch, H, W sides of a picture, f factor, h = ceil(H / f), w = ceil(W / f), c codes a point, Z and D channels
of the latent map before and after `quant_conv`, K codebook size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.layers.movq import MoVQDecoder, MoVQEncoder
from visionpatch.layers.patch_gan import PatchGAN
from visionpatch.layers.quantizer import VectorQuantizer, codebook_usage
from visionpatch.models.tiles import decode_tiles
from visionpatch.models.wiring import build
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

# the released SBER-MoVQGAN models, by their numbers of parameters
ARCHS = {
    "67M": dict(channels=128, num_res_blocks=2),
    "102M": dict(channels=128, num_res_blocks=4),
    "270M": dict(channels=256, num_res_blocks=2),
}
MODES = ("tensor", "loss", "predict")


@MODELS.register_module()
class ImageTokenizer(BaseModel):
    """Encoder, quantiser and a decoder whose norms are modulated by the codes (MoVQ, arXiv:2209.09002).

    Args:
        arch: "67M", "102M" or "270M", which stands for `channels` and `num_res_blocks`.
        channels, num_res_blocks: of `MoVQEncoder`, where they are not those of `arch`.
        channel_mult: factor of `channels` at each level; one level more doubles the factor f = 2^(levels - 1).
        attn_levels: levels, 0 the finest, with attention.
        decoder_attn_levels: of the decoder; None: the same.
        z_channels: Z.
        embed_channels: D, c * d values of the code vectors of a point.
        codebook_size: K.
        code_channels: c; 1 in the released models, 4 in the paper.
        beta, legacy, ema_decay, revive_below: of `VectorQuantizer`.
        modulated: False: plain group norms in the decoder.
        norm_affine, norm_conv: of `MoVQDecoder`.
        num_groups, decoder_num_groups: of the norms; None: those of the encoder.
        dropout: inside the residual blocks.
        loss: a `TokenizerLoss` or its config; without one the model does not train.
        discriminator: arguments of `PatchGAN`; None: no adversarial loss.
        data_preprocessor: brings pixels to -1..1, RGB; DataPreprocessor with mean and std 127.5 unless given.

    Raises:
        ConfigError: an unknown `arch` or an argument out of its range.
    """

    def __init__(
        self,
        arch: str = "67M",
        channels: int | None = None,
        channel_mult: Sequence[int] = (1, 2, 2, 4),
        num_res_blocks: int | None = None,
        attn_levels: Sequence[int] = (3,),
        decoder_attn_levels: Sequence[int] | None = None,
        z_channels: int = 4,
        embed_channels: int = 4,
        codebook_size: int = 16384,
        code_channels: int = 1,
        beta: float = 0.25,
        legacy: bool = True,
        ema_decay: float | None = None,
        revive_below: float = 0.0,
        modulated: bool = True,
        norm_affine: bool = True,
        norm_conv: bool = False,
        num_groups: int = 32,
        decoder_num_groups: int | None = None,
        dropout: float = 0.0,
        loss: dict | nn.Module | None = None,
        discriminator: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        scale = dict(type="DataPreprocessor", mean=[127.5] * 3, std=[127.5] * 3)
        super().__init__(build(data_preprocessor or scale), init_cfg)
        if arch not in ARCHS:
            raise ConfigError(f'ImageTokenizer has no arch "{arch}"{nearest(str(arch), ARCHS)}')
        _check_levels(channel_mult, attn_levels, decoder_attn_levels or ())
        shape: dict[str, Any] = dict(
            channels=ARCHS[arch]["channels"] if channels is None else channels,
            num_res_blocks=ARCHS[arch]["num_res_blocks"] if num_res_blocks is None else num_res_blocks,
            channel_mult=channel_mult,
            z_channels=z_channels,
            dropout=dropout,
        )
        self.stride = 2 ** (len(channel_mult) - 1)
        self.encoder = MoVQEncoder(attn_levels=attn_levels, num_groups=num_groups, **shape)
        self.decoder = MoVQDecoder(
            attn_levels=attn_levels if decoder_attn_levels is None else decoder_attn_levels,
            num_groups=num_groups if decoder_num_groups is None else decoder_num_groups,
            code_channels=embed_channels if modulated else None,
            norm_affine=norm_affine,
            norm_conv=norm_conv,
            **shape,
        )
        self.quantizer = VectorQuantizer(
            codebook_size, embed_channels, code_channels, beta, legacy, ema_decay, revive_below
        )
        self.quant_conv = nn.Conv2d(z_channels, embed_channels, 1)
        self.post_quant_conv = nn.Conv2d(embed_channels, z_channels, 1)
        self.loss: Any = None if loss is None else build(loss)
        self.discriminator = None if discriminator is None else PatchGAN(**discriminator)

    @property
    def codebook_size(self) -> int:
        return self.quantizer.codebook_size

    @property
    def code_channels(self) -> int:
        return self.quantizer.code_channels

    def encode(self, image: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), RGB in -1..1, -> codes (B, h, w, c), int64.

        Sides that are no multiples of f are padded at the right and bottom with their last pixels; give `decode` the
        size to crop to.
        """
        return self.quantizer.encode(self.encode_latent(self._padded(image)))

    def decode(
        self, codes: Tensor, size: Sequence[int] | None = None, tile: int | None = None, overlap: int = 8
    ) -> Tensor:
        """Codes (B, h, w, c) -> pictures (B, 3, H, W), about -1..1 and not clamped.

        Args:
            codes: integers from 0 to K - 1.
            size: H, W to crop to; None: f times h, w.
            tile: side, in codes, of the squares a large map is decoded by, so that memory grows with them and not with
                the map. They overlap by `overlap` codes, over which one fades into the next. Near to, but not the same
                as, the whole at once: norms and attention see one square. None: at once.

        Raises:
            DataError: another shape or type, a code outside of the codebook, a size that these codes are not of.
            ConfigError: tiles that do not exceed their overlap.
        """
        zq = self.quantizer.decode(codes)
        if tile is None:
            image = self.decode_latent(zq)
        else:
            image = decode_tiles(self.decode_latent, zq, self.stride, tile, overlap)
        return image if size is None else self._cropped(image, size)

    def encode_latent(self, image: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> the map (B, D, H // f, W // f) that is quantised; sides are not padded here."""
        if image.ndim != 4 or min(image.shape[-2:]) < self.stride:
            raise DataError(f"pictures of shape {tuple(image.shape)}; expected (B, 3, H, W), sides >= {self.stride}")
        return self.quant_conv(self.encoder(image))

    def decode_latent(self, zq: Tensor) -> Tensor:
        """The quantised map (B, D, h, w), or one that is not quantised, -> pictures (B, 3, f*h, f*w)."""
        return self.decoder(self.post_quant_conv(zq), zq)

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor") -> Any:
        """A batch (B, 3, H, W) in -1..1 to its reconstruction ("tensor"), losses ("loss": those that need no
        discriminator), or samples with `pred_image` and `gt_image`, (3, H, W) RGB in 0..255, and the codes of the
        padded picture as `pred_codes` (h, w, c) ("predict")."""
        if mode not in MODES:
            raise ConfigError(f'ImageTokenizer: mode = "{mode}"{nearest(mode, MODES)}')
        if mode == "loss":
            return self._losses(inputs)[0]
        padded = self._padded(inputs)
        codes = self.quantizer.encode(self.encode_latent(padded))
        image = self.decode_latent(self.quantizer.decode(codes).to(padded.dtype))
        image = image[..., : inputs.shape[-2], : inputs.shape[-1]]
        if mode == "tensor":
            return image
        samples = data_samples or [DataSample() for _ in inputs]
        for sample, one, given, code in zip(samples, image, inputs, codes):
            height, width = sample.get("img_shape", given.shape[-2:])[:2]
            pred, gt = ((x[:, :height, :width].float() + 1) * 127.5 for x in (one, given))
            sample.pred_image, sample.gt_image = pred.clamp(0, 255), gt.clamp(0, 255)
            sample.set_data({"pred_codes": code})
        return samples

    def train_step(  # type: ignore[override]
        self, data: dict, optim_wrapper: OptimWrapper | OptimWrapperDict
    ) -> dict[str, Tensor]:
        """One step of all optimisers on one batch.

        Args:
            data: what the data loader gives.
            optim_wrapper: `OptimWrapper` of a model without discriminator, otherwise an `OptimWrapperDict` with
                "autoencoder" and "discriminator", as ``OptimizerPerPart`` makes it of
                ``dict(autoencoder=dict(optimizer=...), discriminator=dict(parts=["discriminator"], ...))``.

        Both losses are computed on one forward pass, and their gradients before either optimiser steps, so that a loss
        that is not finite changes neither.
        """
        wrappers = _wrappers(optim_wrapper, self.discriminator is not None)
        with wrappers[0].optim_context(self):
            images = self.data_preprocessor(data, True)["inputs"]
            losses, reconstruction = self._losses(images)
            adversarial = self.discriminator is not None and self.loss.started
            if adversarial:
                losses |= self._told_from_real(reconstruction, losses)
        total, log = self.parse_losses(losses)
        steps = [(wrappers[0], total)]
        if adversarial:
            with wrappers[1].optim_context(self):
                logits = (self.discriminator(x) for x in (images, reconstruction.detach()))  # type: ignore[misc]
                found = self.loss.discriminate(*logits)
            total, more = self.parse_losses(found)
            steps.append((wrappers[1], total))
            log |= {name: value for name, value in more.items() if name != "loss"}
        for wrapper, total in steps:
            wrapper.backward(wrapper.scale_loss(total))
        for wrapper, _ in steps:
            if wrapper.should_update():
                wrapper.step()
                wrapper.zero_grad()
        self.loss.steps += 1
        return log

    def _losses(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Losses without the adversarial ones, and the reconstruction."""
        if self.loss is None:
            raise ConfigError('model.loss is not set; give loss=dict(type="TokenizerLoss", ...) to train')
        padded = self._padded(images)
        zq, codes, loss_codebook = self.quantizer(self.encode_latent(padded))
        image = self.decoder(self.post_quant_conv(zq), zq)[..., : images.shape[-2], : images.shape[-1]]
        losses = self.loss.reconstruction(images, image)
        losses["loss_codebook"] = self.loss.codebook_weight * loss_codebook
        counts = torch.bincount(codes.flatten(), minlength=_bare(self.quantizer).codebook_size)
        losses["codebook_usage"], losses["perplexity"] = codebook_usage(counts)
        return losses, image

    def _told_from_real(self, reconstruction: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The adversarial loss; no gradient of the discriminator's weights is computed for it."""
        critic = _bare(self.discriminator)
        critic.requires_grad_(False)
        logits = critic(reconstruction)
        critic.requires_grad_(True)
        return self.loss.generator(logits, losses, _bare(self.decoder).conv_out.weight)

    def _padded(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) with the last row and column repeated up to multiples of the stride."""
        bottom, right = (-side % self.stride for side in image.shape[-2:])
        return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image

    def _cropped(self, image: Tensor, size: Sequence[int]) -> Tensor:
        height, width = size
        offered = image.shape[-2:]
        if not all(0 <= have - want < self.stride for have, want in zip(offered, (height, width))):
            raise DataError(
                f"size = {tuple(size)}, but these codes are of a picture of {tuple(offered)} pixels (height, width), "
                f"or up to {self.stride - 1} less; multiples of {self.stride} are not cropped"
            )
        return image[..., :height, :width]


def _check_levels(channel_mult: Sequence[int], *levels: Sequence[int]) -> None:
    if not channel_mult or min(channel_mult) < 1:
        raise ConfigError(f"channel_mult = {list(channel_mult)}; expected one positive factor a level")
    for one in levels:
        if not set(one) <= set(range(len(channel_mult))):
            raise ConfigError(f"attn_levels = {list(one)}; levels run from 0 to {len(channel_mult) - 1}")


def _wrappers(given: OptimWrapper | OptimWrapperDict, adversarial: bool) -> list[OptimWrapper]:
    """Of the autoencoder and, where there is one, of the discriminator."""
    if not isinstance(given, OptimWrapperDict):
        if adversarial:
            raise ConfigError("the model has a discriminator: optim_wrapper needs autoencoder and discriminator")
        return [given]
    names = ["autoencoder", "discriminator"] if adversarial else ["autoencoder"]
    if set(given.keys()) != set(names):
        raise ConfigError(f"optim_wrapper has {sorted(given.keys())}; expected {names}")
    return [given[name] for name in names]


def _bare(module: Any) -> Any:
    """The module inside a wrapper for several processes."""
    return getattr(module, "module", module)
