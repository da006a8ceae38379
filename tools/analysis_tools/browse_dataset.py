"""Write the samples that a model is trained on, after all augmentation, with their labels drawn over them.

python tools/analysis_tools/browse_dataset.py CONFIG --out-dir browse --number 20
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument(
        "--out-dir", "--output-dir", default="browse", metavar="DIR", help="folder of the pictures (default: browse)"
    )
    p.add_argument(
        "--split", choices=["train", "val", "test"], default="train", help="which dataloader (default: train)"
    )
    p.add_argument("--number", type=int, default=20, help="how many samples (default: 20)")
    p.add_argument("--epoch", type=int, default=0, help="whose augmentation is drawn (default: 0)")
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cfg = cli.config_of(args)
    loader = cfg.get(f"{args.split}_dataloader")
    cli.need(loader is not None, f"{args.config}: has no {args.split}_dataloader")
    import cv2
    from mmengine.registry import DefaultScope
    from rich.console import Console
    from rich.progress import track

    from visionpatch.registry import DATASETS, SCOPE

    with DefaultScope.overwrite_default_scope(SCOPE):
        dataset = DATASETS.build(loader.dataset)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True)
    number = min(args.number, len(dataset))
    for index in track(range(number), description="drawing", console=console):
        key = index + (args.epoch * len(dataset) if getattr(dataset, "takes_epoch_keys", False) else 0)
        packed = dataset[key]
        stem = Path(packed["data_samples"].get("img_path", f"sample_{index}")).stem
        cv2.imwrite(
            str(out_dir / f"{index:04d}_{stem}.png"), draw_packed(packed, dataset.metainfo, args.split != "train")
        )
    console.print(f"wrote {number} of {len(dataset)} samples to {out_dir}/")
    return 0


def draw_packed(packed: dict, metainfo: dict, evaluated: bool = False) -> Any:
    """A packed sample as a picture (H, W, 3) BGR, its label map or its objects drawn over it where it has some.

    `evaluated`: the objects are in pixels of the file, as evaluation takes them, and so is the picture then.
    """
    import cv2
    import numpy as np

    from visionpatch.visualization import draw_objects, draw_patches, draw_segmentation

    sample = packed["data_samples"]
    if isinstance(packed["inputs"], dict):  # two patches
        patches = [eight_bits(packed["inputs"][name].numpy()[0]) for name in ("visible", "thermal")]
        return draw_patches(*patches, int(sample.gt_label))
    image = np.ascontiguousarray(eight_bits(packed["inputs"].numpy().transpose(1, 2, 0)))
    if "gt_instances" in sample:
        if evaluated:
            image = cv2.resize(image, sample.ori_shape[1::-1])
        objects, ignored = sample.gt_instances, sample.get("ignored_instances")
        return draw_objects(image, objects, metainfo["classes"], metainfo["palette"], ignored=ignored)
    if "gt_sem_seg" not in sample:
        return image
    labels = sample.gt_sem_seg.data.squeeze(0).numpy()
    classes, palette = metainfo["classes"], metainfo["palette"]
    if "class_id" in sample:  # an episode: 1 is its class
        classes, palette = ("background", sample.class_name), [(0, 0, 0), palette[sample.class_id]]
    if labels.shape != image.shape[:2] and "img_shape" in sample:  # of the file, and the picture lies in a canvas
        image = np.ascontiguousarray(image[: sample.img_shape[0], : sample.img_shape[1]])
    return draw_segmentation(image, labels, classes, palette)


def eight_bits(image: Any) -> Any:
    """An array as uint8; another type is scaled to its greatest value."""
    return image if image.dtype == "uint8" else (image.astype("float32") * (255 / max(1, image.max()))).astype("uint8")


if __name__ == "__main__":
    cli.run(main)
