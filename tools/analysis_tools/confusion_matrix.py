"""Draw the confusion matrix of a segmentation model: which class is taken for which.

    python tools/analysis_tools/confusion_matrix.py CONFIG predictions.npz --out confusion.png
    python tools/analysis_tools/confusion_matrix.py CONFIG work_dirs/NAME/best.pth

The second argument is a prediction file of tools/test.py --out, or a checkpoint, which is then run on the test data.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli

MOST_NUMBERS = 30  # classes; with more, the cells are too small for numbers


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument("predictions", help="predictions (.npz, .json) or a checkpoint (.pth, .safetensors)")
    p.add_argument(
        "--out",
        default="confusion_matrix.png",
        metavar="FILE",
        help="the picture: .png, .pdf or .svg (default: confusion_matrix.png)",
    )
    p.add_argument("--title", default="", help="of the picture")
    p.add_argument("--device", help="cpu, cuda ...; default: a GPU if there is one")
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cfg = cli.config_of(args)
    cli.need(cfg.get("test_dataloader") is not None, f"{args.config}: has no test_dataloader")
    from mmengine.registry import DefaultScope
    from rich.console import Console
    from rich.progress import track

    from visionpatch.evaluation import compute_confusion
    from visionpatch.registry import DATASETS, SCOPE

    with DefaultScope.overwrite_default_scope(SCOPE):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    stored = Path(args.predictions).suffix in (".npz", ".json")
    pairs = stored_pairs(dataset, args.predictions) if stored else predicted_pairs(cfg, dataset, args)
    classes = dataset.metainfo["classes"]
    total: Any = 0
    console = Console(soft_wrap=True)
    for prediction, truth in track(pairs, total=len(dataset), description="counting", console=console):
        total = total + compute_confusion(prediction, truth, len(classes))
    shares = draw_matrix(total, classes, args.title, Path(args.out))
    for share, row, column in confused(shares)[:5]:
        console.print(f"{100 * share:5.1f} % of {classes[row]} is taken for {classes[column]}", highlight=False)
    console.print(f"wrote {args.out}")
    return 0


def stored_pairs(dataset: Any, path: str) -> Iterator[tuple[Any, Any]]:
    """Prediction and truth (H, W) of every sample, the predictions from a file."""
    from visionpatch.engine.predictions import read_predictions

    found = {record["img_path"]: record.get("sem_seg") for record in read_predictions(path)}
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        prediction = found.get(str(sample.img_path))
        cli.need(
            prediction is not None, f"{path}: holds no label map for {sample.img_path}; was it made with this config?"
        )
        yield prediction, sample.gt_sem_seg.data.squeeze(0).numpy()


def predicted_pairs(cfg: Any, dataset: Any, args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    """Prediction and truth (H, W) of every sample, the predictions from a model."""
    import torch

    from visionpatch.apis import get_model

    model = get_model(cfg, args.predictions, args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    for index in range(len(dataset)):
        packed = dataset[index]
        with torch.inference_mode():
            sample = model.test_step({key: [value] for key, value in packed.items()})[0].cpu()
        yield sample.pred_sem_seg.data.squeeze(0).numpy(), sample.gt_sem_seg.data.squeeze(0).numpy()


def draw_matrix(matrix: Any, classes: Sequence[str], title: str, out: Path) -> Any:
    """Rows are the truth and sum to 100 %; returns the shares (C, C), nan where a class never occurs."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    counts = matrix.sum(1, keepdims=True)
    shares = np.where(counts > 0, matrix / np.maximum(counts, 1), np.nan)
    side = min(40.0, max(4.0, 0.42 * len(classes) + 2))
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    picture = axis.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axis.set_facecolor("0.9")  # rows of classes that never occur
    places = range(len(classes))
    axis.set_xticks(places, classes, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(places, classes, fontsize=8)
    axis.set(xlabel="predicted", ylabel="labelled", title=title)
    if len(classes) <= MOST_NUMBERS:
        for row in places:
            for column in places:
                value = 100 * shares[row, column]
                if value >= 0.5:
                    colour = "white" if value > 55 else "black"
                    axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(picture, ax=axis, shrink=0.7, label="% of the labelled pixels")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)
    return shares


def confused(shares: Any) -> list[tuple[float, int, int]]:
    """Shares off the diagonal as (share, row, column), the largest first."""
    size = len(shares)
    cells = [(float(shares[r, c]), r, c) for r in range(size) for c in range(size) if r != c and shares[r, c] > 0]
    return sorted(cells, reverse=True)


if __name__ == "__main__":
    cli.run(main)
