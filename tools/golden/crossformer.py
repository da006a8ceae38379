"""Adapter of the published CrossFormer classes (classification, detection, segmentation, first release)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from visionpatch.backbones.crossformer import CrossFormer
from visionpatch.converters.crossformer import DERIVED, convert, progressive_group_sizes
from visionpatch.errors import ConfigError

# arguments of the published constructor whose other values no published model uses (most of them do not run at all)
FIXED = dict(qkv_bias=True, qk_scale=None, drop_rate=0.0, attn_drop_rate=0.0, ape=False, patch_norm=True, use_cpe=False,
             pad_type=0, no_mask=False)  # fmt: skip


class Classifier(nn.Module):
    """The published classification form: backbone, mean over tokens, linear layer."""

    def __init__(self, backbone: CrossFormer, head: Tensor | None) -> None:
        super().__init__()
        self.backbone = backbone
        if head is not None:
            self.head = nn.Module()
            self.head.fc = nn.Linear(head.shape[1], head.shape[0])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = self.backbone(image)
        if hasattr(self, "head"):
            return {"logits": self.head.fc(maps[-1].mean((2, 3)))}
        return {f"stage{index}": feature for index, feature in enumerate(maps)}


def build(args: Mapping, source: str, state: Mapping[str, Tensor]) -> Classifier:
    """Our model for the published constructor's arguments."""
    for name, expected in FIXED.items():
        if args.get(name, expected) != expected:
            raise ConfigError(f"published argument {name} = {args[name]!r} is not supported; expected {expected!r}")
    sizes, ratio = args.get("img_size", 224), args.get("mlp_ratio", 4)
    side = (sizes if isinstance(sizes, int) else sizes[0]) // args["patch_size"][0]
    classify = "head.weight" in state
    backbone = CrossFormer(
        arch=dict(embed_dims=args["embed_dim"], depths=tuple(args["depths"]), num_heads=tuple(args["num_heads"])),
        in_channels=args.get("in_chans", 3),
        group_sizes=progressive_group_sizes(
            args.get("group_type", "constant"), side, args["depths"], args["group_size"]
        ),
        intervals="adaptive" if args.get("adaptive_interval") else args["crs_interval"],
        lda="global" if "crossformer_backbone.py" in source else "tiled",
        cooling=args.get("use_acl", False),
        drop_path_rate=args.get("drop_path_rate", 0.1),
        patch_sizes=args["patch_size"],
        merge_sizes=args["merge_size"][0],
        mlp_ratio=ratio if isinstance(ratio, (int, float)) else ratio[0],
        out_indices=(len(args["depths"]) - 1,) if classify else range(len(args["depths"])),
        out_norm=classify,
    )
    return Classifier(backbone, state.get("head.weight"))


def run(case: Mapping, arrays: Mapping, state: Mapping[str, Tensor], draw: Callable) -> dict[str, Tensor]:
    """Every stored output of the case, gradients included."""
    model = build(case["model"], case["source"], state).eval()
    model.load_state_dict(convert(state, classification=True), strict=True)
    spec = case["inputs"]["image"]
    image = (draw(spec["draw"], spec["shape"]) * spec.get("scale", 1.0)).requires_grad_()
    wants_grad = any(name.startswith("grad") for name in case["outputs"])
    with torch.set_grad_enabled(wants_grad):
        raw = model(image)
    outputs = dict(raw)
    for name, x in raw.items():
        outputs |= {f"{name}.mean": x.mean(), f"{name}.std": x.std(unbiased=False)}
    if wants_grad:
        sum((x * draw(f"cotangent.{name}", x.shape)).sum() for name, x in raw.items()).backward()
        outputs["grad_input"] = image.grad
        grads = {name: parameter.grad for name, parameter in model.named_parameters()}
        published = [name for name in state if not DERIVED.search(name)]
        outputs |= {f"grad.{theirs}": grads[ours] for ours, theirs in zip(convert(state, True), published, strict=True)}
    return outputs


ADAPTERS = {"CrossFormer": run}
