"""Adapters of the published MoVQ: the whole codec, its norm, its quantiser, its losses, and diffusers' form of it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.converters import lpips, movq
from visionpatch.errors import ConfigError
from visionpatch.layers.patch_gan import PatchGAN
from visionpatch.layers.quantizer import VectorQuantizer
from visionpatch.layers.spatial_norm import SpatialNorm
from visionpatch.losses.perceptual import LPIPS
from visionpatch.losses.tokenizer import PUBLISHED, TokenizerLoss, adaptive_weight, vanilla
from visionpatch.models import ImageTokenizer

Arrays = Mapping[str, np.ndarray]
Draw = Callable[[str, Any], Tensor]
# arguments of the published codec that only training knows, or that no release sets otherwise
UNUSED = {"lossconfig", "ckpt_path", "ignore_keys", "image_key", "colorize_nlabels", "monitor", "learning_rate"}
UNUSED |= {"ema_decay", "sane_index_shape", "unknown_index"}
FIXED: dict[str, Any] = dict(double_z=False, resamp_with_conv=True, attn_type="vanilla", remap=None, in_channels=3,
                             out_ch=3, give_pre_end=False, tanh_out=False,
                             use_linear_attn=False)  # fmt: skip


def run_codec(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Codes, reconstruction and gradients of `MOVQ`."""
    return codec_outputs(ImageTokenizer(**codec_arguments(case["model"])), case, arrays, state, draw)


def run_diffusers(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """The same of `VQModel` with spatial norms."""
    return codec_outputs(ImageTokenizer(**diffusers_arguments(case["model"])), case, arrays, state, draw)


def codec_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Our arguments for those of `MOVQ`; attention follows the nominal resolution of each level."""
    args = dict(given)
    ddconfig = dict(args.pop("ddconfig"))
    _refuse({**args, **ddconfig})
    side, where, levels = ddconfig["resolution"], ddconfig["attn_resolutions"], len(ddconfig["ch_mult"])
    coarsest = side // 2 ** (levels - 1)
    return dict(
        channels=ddconfig["ch"],
        channel_mult=ddconfig["ch_mult"],
        num_res_blocks=ddconfig["num_res_blocks"],
        attn_levels=[i for i in range(levels) if side // 2**i in where],
        decoder_attn_levels=[i for i in range(levels) if coarsest * 2 ** (levels - 1 - i) in where],
        z_channels=ddconfig["z_channels"],
        embed_channels=args["embed_dim"],
        codebook_size=args["n_embed"],
        norm_conv=bool(ddconfig.get("add_conv", args.get("add_conv", False))),
        dropout=ddconfig.get("dropout", 0.0),
    )


def diffusers_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Our arguments for those of `VQModel`, whose defaults are diffusers' own."""
    args: dict[str, Any] = dict(
        down_block_types=["DownEncoderBlock2D"], up_block_types=["UpDecoderBlock2D"], block_out_channels=[64],
        layers_per_block=1, latent_channels=3, num_vq_embeddings=256, norm_num_groups=32, vq_embed_dim=None,
        norm_type="group", in_channels=3, out_channels=3, act_fn="silu", lookup_from_codebook=False,
        mid_block_add_attention=True,
    ) | dict(given)  # fmt: skip
    widths, down, up = args["block_out_channels"], args["down_block_types"], args["up_block_types"]
    expected = dict(norm_type="spatial", in_channels=3, out_channels=3, act_fn="silu", mid_block_add_attention=True)
    for name, value in expected.items():
        if args[name] != value:
            raise ConfigError(f"published argument {name} = {args[name]!r} is not supported; expected {value!r}")
    if any(width % widths[0] for width in widths):
        raise ConfigError(f"published argument block_out_channels = {widths}; expected multiples of the first")
    return dict(
        channels=widths[0],
        channel_mult=[width // widths[0] for width in widths],
        num_res_blocks=args["layers_per_block"],
        attn_levels=[i for i, kind in enumerate(down) if kind.startswith("Attn")],
        decoder_attn_levels=[len(up) - 1 - i for i, kind in enumerate(up) if kind.startswith("Attn")],
        z_channels=args["latent_channels"],
        embed_channels=args["vq_embed_dim"] or args["latent_channels"],
        codebook_size=args["num_vq_embeddings"],
        num_groups=args["norm_num_groups"],
        decoder_num_groups=32,  # of its spatial norm, always
    )


def codec_outputs(
    model: ImageTokenizer, case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw
) -> dict[str, Tensor]:
    """Everything a case of a codec may store; pictures of odd sides go in as they are, as the published code has it."""
    model.eval().load_state_dict(movq.convert(state), strict=True)
    image = one_input(case["inputs"], draw, arrays).requires_grad_()
    quantizer, weight = model.quantizer, model.quantizer.embedding.weight
    latent = model.encode_latent(image)
    margin = margins(quantizer.rows(latent), weight)
    codes = settled(quantizer.encode(latent), margin, arrays, 1e-4)
    quant = quantizer.decode(codes)
    loss = F.mse_loss(latent, quant.detach()) + 0.25 * F.mse_loss(quant, latent.detach())
    result = model.decode_latent(latent + (quant - latent).detach())
    outputs = dict(latent=latent, latents=latent, margin=margin, quant=quant, quant_loss=loss, loss=loss)
    outputs |= dict(reconstruction=result, sample=result, indices=codes.flatten(), codes=codes)
    if continuous := next((name for name in arrays if "continuous" in name or "not_quant" in name), None):
        outputs[continuous] = model.decode_latent(latent)
    cotangent = draw("cotangent", result.shape)
    grads = dict(grad_input=((result * cotangent).sum(), image), grad_input_quant_loss=(loss, image))
    grads |= dict(grad_codebook_quant_loss=(loss, weight), grad_latent=((result * cotangent).sum(), latent))
    for name, (value, place) in grads.items():
        if name in arrays:
            outputs[name] = torch.autograd.grad(value, place, retain_graph=True)[0]
    return outputs


def run_norms(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """`SpatialNorm`: one layer or several with a name each; the n-th layer takes the n-th pair of inputs."""
    named = case["model"] if all(isinstance(one, Mapping) for one in case["model"].values()) else {"": case["model"]}
    inputs = {name: tensor(spec, draw).requires_grad_() for name, spec in case["inputs"].items()}
    maps = [inputs[name] for name in inputs if not name.startswith("zq")]
    codes = [inputs[name] for name in inputs if name.startswith("zq")]
    outputs: dict[str, Tensor] = {}
    for index, (name, args) in enumerate(named.items()):
        layer = spatial_norm(args).eval()
        prefix = f"{name}." if name else ""
        layer.load_state_dict({k.removeprefix(prefix): x for k, x in state.items() if k.startswith(prefix)})
        x, code = maps[min(index, len(maps) - 1)], codes[min(index, len(codes) - 1)]
        result = layer(x, code)
        outputs[name or "output"] = outputs.setdefault("out", result) if not name else result
        grads = torch.autograd.grad((result * draw("cotangent", result.shape)).sum(), (x, code))
        suffixes = (f"_{name}", str(index + 1)) + (("",) if index == 0 else ())
        for suffix in suffixes:
            outputs |= {f"grad_f{suffix}": grads[0], f"grad_zq{suffix}": grads[1]}
    return outputs


def spatial_norm(given: Mapping[str, Any]) -> SpatialNorm:
    args = dict(norm_layer="GroupNorm", num_groups=32, eps=1e-6, affine=True, add_conv=False, freeze_norm_layer=False)
    args |= given
    if args["norm_layer"] not in ("GroupNorm", None):
        raise ConfigError(f"published argument norm_layer = {args['norm_layer']!r}; expected GroupNorm")
    return SpatialNorm(
        args["f_channels"], args["zq_channels"], args["num_groups"], args["affine"], args["add_conv"], args["eps"]
    )


def run_quantizer(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """`VectorQuantizer2`: one layer, or several with a name each, before which or after which an output has its own."""
    if not all(isinstance(one, Mapping) for one in case["model"].values()):
        return quantizer_outputs(case["model"], case["inputs"], arrays, state, draw)
    outputs: dict[str, Tensor] = {}
    for name, args in case["model"].items():
        own = {key: spec for key, spec in case["inputs"].items() if name in key} or case["inputs"]
        layer = _below(state, f"{name}.") or state
        renamed = {key.replace(f"{name}_", "").replace(f"_{name}", ""): x for key, x in arrays.items() if name in key}
        found = quantizer_outputs(args, own, renamed, layer, draw)
        outputs |= {form: x for key, x in found.items() for form in (f"{name}_{key}", f"{key}_{name}")}
    return outputs


def quantizer_outputs(
    given: Mapping[str, Any], inputs: Mapping[str, Any], arrays: Arrays, state: Mapping[str, Tensor], draw: Draw
) -> dict[str, Tensor]:
    """Codes, the quantised map, the loss and its gradients."""
    args = dict(beta=0.25, legacy=True, remap=None) | dict(given)
    if args["remap"] is not None:
        raise ConfigError(f"published argument remap = {args['remap']!r} is not supported; expected None")
    model = VectorQuantizer(args["n_e"], args["e_dim"], 1, args["beta"], args["legacy"])
    weight = model.embedding.weight
    if name := next((name for name in ("codebook", "embedding", "weight") if name in arrays), None):
        weight.data.copy_(torch.from_numpy(arrays[name]))
    else:
        model.load_state_dict({name.removeprefix("quantize."): x for name, x in state.items()}, strict=True)
    maps = {name: spec for name, spec in inputs.items() if name not in ("codebook", "embedding", "weight")}
    z = one_input(maps, draw, arrays).requires_grad_()
    margin = margins(model.rows(z), weight)
    fixed = settled(model.encode(z), margin, arrays, 1e-5)
    model.encode = lambda _: fixed  # type: ignore[method-assign]
    quant, codes, loss = model(z)
    outputs = dict(quant=quant, zq=quant, z_q=quant, loss=loss, quant_loss=loss, margin=margin)
    for name in ("indices", "codes"):
        outputs[name] = codes.view(arrays[name].shape) if name in arrays else codes.flatten()
    total = (quant * draw("cotangent", quant.shape)).sum()
    grads = dict(grad_z=total, grad_z_loss=loss, grad_loss_z=loss, grad_z_quant_loss=loss)
    for name, value in grads.items():
        if name in arrays:
            outputs[name] = torch.autograd.grad(value, z, retain_graph=True)[0]
    for name in arrays:
        if name.startswith("grad_") and ("codebook" in name or "embedding" in name):
            outputs[name] = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    return outputs


def settled(codes: Tensor, margin: Tensor, arrays: Arrays, bar: float) -> Tensor:
    """`codes`, but the stored ones where two are equally near but for rounding; equal distances are no such case."""
    if "indices" not in arrays:
        return codes
    stored = torch.from_numpy(arrays["indices"]).view_as(codes).to(codes.dtype)
    clear = ((margin > bar) | (margin == 0)).view_as(codes)
    return torch.where(clear, codes, stored)


def margins(rows: Tensor, codebook: Tensor) -> Tensor:
    """How much farther the second nearest of `codebook` (K, d) is from each of `rows` (N, d): squared, (N,)."""
    parts = []
    for part in rows.detach().double().split(256):
        distance = torch.cdist(part, codebook.detach().double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        two = distance.topk(min(2, len(codebook)), largest=False).values
        parts.append(two[:, -1] - two[:, 0])
    return torch.cat(parts)


def run_losses(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """`VQLPIPSWithDiscriminator2`: the terms, their gradients, and the adaptive weight it defines."""
    args = case["model"]
    if args.get("disc_conditional"):
        raise ConfigError("published argument disc_conditional = True is not supported; expected False")
    discriminator = dict(in_channels=args.get("disc_in_channels", 3), num_layers=args.get("disc_num_layers", 3))
    distance = LPIPS()
    loss, critic = TokenizerLoss(perceptual=distance, **PUBLISHED), PatchGAN(**discriminator).eval()
    parts = {name: x.abs() if ".lin" in name else x for name, x in state.items()}  # published ones are not negative
    distance.load_weights(lpips.convert(_below(parts, "perceptual_loss.")))
    critic.load_state_dict(_below(parts, "discriminator."), strict=False)  # it counts no batches
    image, features = (tensor(case["inputs"][name], draw) for name in ("inputs", "features"))
    last = state["last_layer.weight"].clone().requires_grad_()
    fake = F.conv2d(features, last, state["last_layer.bias"], padding=1)
    terms = loss.reconstruction(image, fake)
    nll = terms["loss_pixel"] + terms["loss_perceptual"]
    g_loss = loss.generator(critic(fake), terms, last)["loss_adversarial"] / loss.adversarial_weight
    total = nll + loss.adversarial_weight * g_loss + case["inputs"]["codebook_loss"]["value"]
    real_logits, fake_logits = critic(image), critic(fake.detach())
    outputs = dict(perceptual=distance(image, fake), nll_loss=nll, g_loss=g_loss, autoencoder_loss=total)
    outputs |= dict(logits_real=real_logits, logits_fake=fake_logits)
    outputs["grad_reconstruction"] = torch.autograd.grad(total, fake, retain_graph=True)[0]
    outputs["disc_loss"] = loss.discriminate(real_logits, fake_logits)["loss_discriminator"]
    outputs["disc_loss_vanilla"] = vanilla(real_logits, fake_logits)
    outputs["adaptive_weight"] = adaptive_weight(nll, g_loss, last) * args.get("disc_weight", 1.0)
    critic.train()
    outputs |= dict(train_logits_real=critic(image), train_logits_fake=critic(fake.detach()))
    stored = dict(critic.named_buffers())
    outputs |= {
        f"train_{kind}": _named(case, f"train_{kind}", kind, stored) for kind in ("running_mean", "running_var")
    }
    return outputs


def _named(case: Mapping, output: str, kind: str, buffers: Mapping[str, Tensor]) -> Tensor:
    """The buffer that the description of the output names, or the first of its kind."""
    text = case["outputs"].get(output, "")
    found = [name for name in buffers if name.endswith(kind)]
    return buffers[next((name for name in found if name in text), found[0])]


def tensor(spec: Mapping[str, Any], draw: Draw) -> Tensor:
    return draw(spec["draw"], spec["shape"]) * spec.get("scale", 1.0) + spec.get("shift", 0.0)


def one_input(inputs: Mapping[str, Any], draw: Draw, arrays: Arrays) -> Tensor:
    """The only drawn input, or the first stored one."""
    for name, spec in inputs.items():
        if name in arrays:
            return torch.from_numpy(arrays[name])
        if "draw" in spec:
            return tensor(spec, draw)
    raise ConfigError(f"none of the inputs {sorted(inputs)} is drawn or stored")


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}


def _refuse(args: Mapping[str, Any]) -> None:
    """Raise ConfigError for published arguments that are not known, or have a value that no release has."""
    known = {"n_embed", "embed_dim", "z_channels", "resolution", "ch", "ch_mult", "num_res_blocks", "attn_resolutions"}
    if unknown := set(args) - known - UNUSED - set(FIXED) - {"dropout", "add_conv"}:
        raise ConfigError(f"published arguments {sorted(unknown)} are not known")
    for name, expected in FIXED.items():
        if args.get(name, expected) != expected:
            raise ConfigError(f"published argument {name} = {args[name]!r} is not supported; expected {expected!r}")


ADAPTERS = {
    "MOVQ": run_codec,
    "VQModel": run_diffusers,
    "SpatialNorm": run_norms,
    "VectorQuantizer2": run_quantizer,
    "VQLPIPSWithDiscriminator2": run_losses,
}
