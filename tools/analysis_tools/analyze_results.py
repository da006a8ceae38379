"""Draw the pictures that a model predicts worst, and those that it predicts best.

    python tools/analysis_tools/analyze_results.py CONFIG predictions.npz --out-dir analysis --number 10

The predictions are a file of tools/test.py --out, the ground truth that of the config's test data. Objects score the
mean over the picture's classes of their average precision at IoU 0.50 to 0.95, label maps their mean IoU; both from 0
to 1. A picture without objects scores 1 if none is predicted from --score-thr on, else 0.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument("predictions", help="file of tools/test.py --out (.npz, .json)")
    p.add_argument("--out-dir", default="analysis", metavar="DIR", help="folder of the pictures (default: analysis)")
    p.add_argument("--number", type=int, default=10, help="how many of the worst and of the best (default: 10)")
    p.add_argument("--score-thr", type=float, default=0.3, help="objects from this score on are drawn (default: 0.3)")
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cli.need(args.number > 0, f"--number {args.number}: expected 1 or more")
    cfg = cli.config_of(args)
    cli.need(cfg.get("test_dataloader") is not None, f"{args.config}: has no test_dataloader")
    from mmengine.registry import DefaultScope
    from rich.console import Console
    from rich.progress import track

    from visionpatch.registry import DATASETS, SCOPE

    with DefaultScope.overwrite_default_scope(SCOPE):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    console = Console(soft_wrap=True)
    classes, ranked = dataset.metainfo["classes"], []
    for index, sample in track(
        predicted_samples(dataset, args.predictions), total=len(dataset), description="scoring", console=console
    ):
        ranked.append((picture_score(sample, len(classes), args.score_thr), index))
    ranked = sorted(pair for pair in ranked if pair[0] == pair[0])  # nan: nothing to compare with
    cli.need(
        ranked,
        f"{args.config}: no picture of its test data has ground truth to compare with; put LoadAnnotations into the "
        "pipeline of test_dataloader.dataset, or name a split with annotations by --cfg-options",
    )
    number = min(args.number, len(ranked))
    chosen = dict(worst=ranked[:number], best=ranked[::-1][:number])
    write_pictures(dataset, args, chosen)
    mean = sum(score for score, _ in ranked) / len(ranked)
    console.print(f"{len(ranked)} pictures score {mean:.3f} on average, from {ranked[0][0]:.3f} to {ranked[-1][0]:.3f}")
    console.print(f"wrote {number} pictures each to {args.out_dir}/worst and {args.out_dir}/best", highlight=False)
    return 0


def write_pictures(dataset: Any, args: argparse.Namespace, chosen: Mapping[str, Sequence[tuple[float, int]]]) -> None:
    """Draw the samples of each list, (score, index), into the folder of its name; the rank begins the file's name."""
    import cv2

    from visionpatch.visualization import draw_sample

    wanted = {index for pairs in chosen.values() for _, index in pairs}
    samples = dict(predicted_samples(dataset, args.predictions, wanted))
    for name, pairs in chosen.items():
        folder = Path(args.out_dir) / name
        folder.mkdir(parents=True, exist_ok=True)
        for rank, (score, index) in enumerate(pairs):
            sample = samples[index]
            picture = draw_sample(sample, dataset.metainfo, min_score=args.score_thr)
            cv2.imwrite(str(folder / f"{rank:03d}_{score:.3f}_{Path(sample.img_path).stem}.png"), picture)


def predicted_samples(dataset: Any, path: str, wanted: set[int] | None = None) -> Iterator[tuple[int, Any]]:
    """(index, sample with ground truth and prediction) of the test data, or of the `wanted` indices."""
    from visionpatch.engine.predictions import read_predictions

    found = {record["img_path"]: record for record in read_predictions(path)}
    for index in range(len(dataset)) if wanted is None else sorted(wanted):
        sample = dataset[index]["data_samples"]
        record = found.get(str(sample.img_path))
        cli.need(record is not None, f"{path}: holds nothing for {sample.img_path}; was it made with this config?")
        put_prediction(sample, record)
        put_truth(sample, dataset.get_data_info(index).get("objects"))
        yield index, sample


def put_truth(sample: Any, objects: Any) -> None:
    """The boxes of a detection dataset into a sample whose pipeline did not load them."""
    import torch
    from mmengine.structures import InstanceData

    if objects is None or "gt_instances" in sample:
        return
    ignored = torch.from_numpy(objects.crowd | objects.difficult)
    found = InstanceData(bboxes=torch.from_numpy(objects.boxes), labels=torch.from_numpy(objects.labels))
    sample.gt_instances, sample.ignored_instances = found[~ignored], found[ignored]


def put_prediction(sample: Any, record: Mapping[str, Any]) -> None:
    """The prediction of a record into its sample."""
    import numpy as np
    import torch
    from mmengine.structures import InstanceData, PixelData

    from visionpatch.engine.predictions import mask_of

    cli.need("bboxes" in record or "sem_seg" in record, f"{sample.img_path}: neither objects nor a label map predicted")
    if "bboxes" in record:
        count = len(record["labels"])
        fields = dict(bboxes=record["bboxes"].reshape(count, 4), labels=record["labels"], scores=record["scores"])
        sample.pred_instances = InstanceData(**{name: torch.from_numpy(value) for name, value in fields.items()})
        if record.get("masks"):
            sample.pred_instances.masks = torch.from_numpy(np.stack([mask_of(runs) for runs in record["masks"]]))
    else:
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(record["sem_seg"].astype(np.int64))[None])


def picture_score(sample: Any, num_classes: int, score_thr: float) -> float:
    """From 0 to 1, nan where there is nothing to compare with."""
    if "pred_instances" in sample:
        return object_score(sample.to_dict(), num_classes, score_thr)
    return map_score(sample, num_classes)


def object_score(sample: dict, num_classes: int, score_thr: float) -> float:
    """The mean over the classes of a picture and over IoU thresholds of the average precision."""
    import numpy as np

    from visionpatch.evaluation.instances import annotated, predicted
    from visionpatch.evaluation.voc_metric import class_precisions

    if "gt_instances" not in sample:
        return float("nan")
    found, truth = predicted(sample, num_classes), annotated(sample, num_classes)
    if truth.ignored.all():  # without any object as well
        return float(not (found.scores >= score_thr).any())
    values = [class_precisions([(found, truth)], num_classes, threshold) for threshold in THRESHOLDS]
    return float(np.nanmean(values))


def map_score(sample: Any, num_classes: int) -> float:
    """The mean IoU of the classes of a picture."""
    import numpy as np

    from visionpatch.evaluation import compute_confusion
    from visionpatch.evaluation.iou_metric import areas, class_values

    if "gt_sem_seg" not in sample:
        return float("nan")
    maps = [field.data.squeeze(0).numpy() for field in (sample.pred_sem_seg, sample.gt_sem_seg)]
    confusion = compute_confusion(*maps, num_classes, where=sample.img_path)
    values = class_values(areas(confusion))[1]["IoU"]
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


if __name__ == "__main__":
    cli.run(main)
