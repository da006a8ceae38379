"""SBER-MoVQGAN checkpoints (``movqgan_67M.ckpt`` ...) and those of diffusers' ``VQModel(norm_type="spatial")``, such as
the ``movq`` folders of Kandinsky 2.1, 2.2 and 3; both ways.

Letters: L levels.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from visionpatch.errors import WeightsError

PARTS = ("encoder", "decoder", "quantize", "quant_conv", "post_quant_conv")
NORM = r"(?:\.(?:norm_layer|conv_y|conv_b|conv))?"  # of a modulated norm
LEAF = r"\.(?:weight|bias)"
BLOCK = rf"(?:norm[12]{NORM}|conv[12]|nin_shortcut){LEAF}"
ATTN = rf"(?:norm{NORM}|q|k|v|proj_out){LEAF}"
RESAMPLE = rf"(?:down|up)sample\.conv{LEAF}"
PUBLISHED = re.compile(
    rf"(?:en|de)coder\.(?:conv_in{LEAF}|conv_out{LEAF}|norm_out{NORM}{LEAF}|mid\.block_[12]\.{BLOCK}|mid\.attn_1\.{ATTN}"
    rf"|(?:down|up)\.\d+\.(?:block\.\d+\.{BLOCK}|attn\.\d+\.{ATTN}|{RESAMPLE}))"
    rf"|(?:post_)?quant_conv{LEAF}|quantize\.embedding\.weight"
)
DROPPED = re.compile(r"loss\.|ema_")
# diffusers' names inside the encoder and the decoder, as patterns, beside ours; the first that fits is taken
INNER = (
    (re.compile(r"mid_block\.resnets\.0\.(.+)"), "mid.block_1.{}"),
    (re.compile(r"mid_block\.resnets\.1\.(.+)"), "mid.block_2.{}"),
    (re.compile(r"mid_block\.attentions\.0\.(.+)"), "mid.attn_1.{}"),
    (re.compile(r"(?:down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(.+)"), "{}.{}.block.{}.{}"),
    (re.compile(r"(?:down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.+)"), "{}.{}.attn.{}.{}"),
    (re.compile(r"down_blocks\.(\d+)\.downsamplers\.0\.(.+)"), "{}.{}.downsample.{}"),
    (re.compile(r"up_blocks\.(\d+)\.upsamplers\.0\.(.+)"), "{}.{}.upsample.{}"),
)
# parts of an attention: as diffusers calls them now, before version 0.15, and ours
ATTENTION = (
    ("to_q", "query", "q"),
    ("to_k", "key", "k"),
    ("to_v", "value", "v"),
    ("to_out.0", "proj_attn", "proj_out"),
)


def convert(state: Mapping[str, Tensor], ema: bool = False) -> dict[str, Tensor]:
    """A published state dict -> that of `ImageTokenizer`.

    Args:
        state: names of SBER-MoVQGAN or of diffusers, told apart by themselves.
        ema: take the moving averages of the weights that SBER's training checkpoints hold beside them; otherwise these
            are dropped, as the weights of the losses are.

    Raises:
        WeightsError: a name that neither has, or averages that are not there.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if any("_blocks." in name for name in state):
        if ema:
            raise WeightsError("a checkpoint of diffusers holds no moving averages; convert it without ema")
        return _ours(_from_diffusers(state))
    weights = {name: tensor for name, tensor in state.items() if not DROPPED.match(name)}
    if unknown := next((name for name in weights if not PUBLISHED.fullmatch(name)), None):
        raise _unknown(unknown)
    return _ours({name: _average(name, state) for name in weights} if ema else weights)


def to_sber(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `ImageTokenizer` -> SBER-MoVQGAN's names; the weights of the losses are dropped.

    Raises:
        WeightsError: a name that these models do not have, as of a codebook by moving averages.
    """
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("loss.")}
    renamed = {re.sub(r"^quantizer\.", "quantize.", name): tensor for name, tensor in kept.items()}
    if unknown := next((name for name in renamed if not PUBLISHED.fullmatch(name)), None):
        raise WeightsError(f'"{unknown}" has no place in a published MoVQ checkpoint; nothing was converted')
    return renamed


def to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `ImageTokenizer` -> the names of diffusers' ``VQModel``; otherwise as `to_sber`."""
    published = to_sber(state)
    levels = _levels(published, r"decoder\.up\.(\d+)\.")
    renamed = {}
    for name, tensor in published.items():
        renamed[_diffusers_name(name, levels)] = tensor.flatten(1) if _projection(name) else tensor
    return renamed


def _ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"^quantize\.", "quantizer.", name): tensor for name, tensor in state.items()}


def _average(name: str, state: Mapping[str, Tensor]) -> Tensor:
    """The moving average of a weight: its name in the part has lost its dots."""
    part, _, rest = name.partition(".")
    key = f"ema_{part}.{rest.replace('.', '')}"
    if key not in state:
        raise WeightsError(f'no moving average "{key}" of "{name}" in this checkpoint; convert it without ema')
    return state[key]


def _from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    levels = _levels(state, r"decoder\.up_blocks\.(\d+)\.")
    renamed = {}
    for name, tensor in state.items():
        published = _published_name(name, levels)
        if not PUBLISHED.fullmatch(published):
            raise _unknown(name)
        renamed[published] = tensor[:, :, None, None] if _projection(published) and tensor.ndim == 2 else tensor
    return renamed


def _published_name(name: str, levels: int) -> str:
    """SBER's name of a tensor of diffusers; a name that fits no pattern stays as it is."""
    side, _, inner = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    for pattern, form in INNER:
        if match := pattern.fullmatch(inner):
            groups = list(match.groups())
            groups[-1] = _attention_name(groups[-1]) if "attn" in form else groups[-1]
            if form.startswith("{}.{}"):
                level = int(groups[0]) if side == "encoder" else levels - 1 - int(groups[0])
                groups[:1] = ["down" if side == "encoder" else "up", str(level)]
            inner = form.format(*groups)
            break
    return f"{side}.{inner}".replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def _attention_name(inner: str) -> str:
    for now, before, ours in ATTENTION:
        for theirs in (now, before):
            if inner.startswith(f"{theirs}."):
                return f"{ours}.{inner.removeprefix(f'{theirs}.')}"
    return re.sub(r"^(group|spatial)_norm\.", "norm.", inner)


def _diffusers_name(name: str, levels: int) -> str:
    """diffusers' name of a tensor of SBER-MoVQGAN."""
    side, _, inner = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    inner = inner.replace("norm_out", "conv_norm_out").replace("nin_shortcut", "conv_shortcut")
    if ".attn" in inner:
        place, norm = re.split(r"(?<=attn_1)\.|(?<=attn\.\d)\.", inner, maxsplit=1)
        kind = "spatial_norm" if ".norm_layer." in inner or ".conv_" in norm or ".conv." in norm else "group_norm"
        norm = re.sub(r"^norm\.", f"{kind}.", norm)
        for now, _, ours in ATTENTION:
            norm = re.sub(rf"^{ours}\.", f"{now}.", norm)
        inner = f"{place}.{norm}"
    inner = re.sub(r"^mid\.block_([12])", lambda m: f"mid_block.resnets.{int(m[1]) - 1}", inner)
    inner = inner.replace("mid.attn_1", "mid_block.attentions.0")
    inner = re.sub(r"^down\.(\d+)", r"down_blocks.\1", inner)
    inner = re.sub(r"^up\.(\d+)", lambda m: f"up_blocks.{levels - 1 - int(m[1])}", inner)
    inner = inner.replace(".block.", ".resnets.").replace(".attn.", ".attentions.")
    return f"{side}." + inner.replace(".downsample.", ".downsamplers.0.").replace(".upsample.", ".upsamplers.0.")


def _projection(name: str) -> bool:
    """Whether diffusers has the tensor of SBER's name as a matrix, not as a 1x1 convolution."""
    return re.search(r"attn(_1|\.\d+)\.(q|k|v|proj_out)\.weight$", name) is not None


def _levels(state: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in state if (match := re.match(pattern, name))), default=-1)


def _unknown(name: str) -> WeightsError:
    return WeightsError(f'"{name}" is not a tensor of a published MoVQ checkpoint; nothing was converted')
