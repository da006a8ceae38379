"""The adapters of the published detection metrics, on made-up cases whose numbers are worked out by hand."""

import json
from pathlib import Path
from typing import Any

import check_golden
import numpy as np
import pytest

TRUTH = [[10.0, 10, 60, 60], [100, 10, 150, 60]]
FOUND = [[70.0, 70, 90, 90], [10, 10, 60, 60]]  # wrong, then right: precision 1/2 at recall 1/2
COCO_AP = 0.5 * 51 / 101
CASE = dict(state={}, outputs={}, notes="")


def errors(folder: Path, arrays: dict[str, Any], **case: Any) -> dict[str, float]:
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    inputs = case.get("inputs", {})
    outputs = {name: "INPUT" if name.rstrip("01") != name and "AP" not in name else "result" for name in arrays}
    (folder / "case.json").write_text(json.dumps(CASE | case | dict(inputs=inputs, outputs=outputs)))
    np.savez(folder / "output.npz", **arrays)
    return check_golden.check_case(folder)


def numbered(**scores: Any) -> dict[str, Any]:
    """Two pictures as arrays: the second one is empty."""
    none = np.zeros((0, 4))
    truth = dict(gt_bboxes0=TRUTH, gt_labels0=[0, 0], gt_bboxes1=none, gt_labels1=np.zeros(0, int))
    found = dict(bboxes0=FOUND, labels0=[0, 0], scores0=[0.9, 0.8])
    return truth | found | dict(bboxes1=none, labels1=np.zeros(0, int), scores1=np.zeros(0)) | scores


def test_coco_metric_rounds_as_published(tmp_path: Path) -> None:
    source = "mmdet/evaluation/metrics/coco_metric.py: CocoMetric"
    model = dict(type="CocoMetric", metric=["bbox"], classes=["cat", "dog"])
    reference = {"bbox_mAP": [0.252], "coco/bbox_mAP_50": [COCO_AP], "bbox_mAP_s": [-1.0]}
    found = errors(tmp_path, numbered(**reference), source=source, model=model)
    assert max(found.values()) < 1e-6 and set(found) == set(reference)
    wrong = errors(tmp_path, numbered(bbox_mAP=[0.251]), source=source, model=model)
    assert wrong["bbox_mAP"] > 1e-3


def test_coco_metric_on_a_file(tmp_path: Path) -> None:
    file = dict(
        images=[dict(id=5, height=100, width=200)],
        categories=[dict(id=4, name="cat")],
        annotations=[
            dict(id=1 + i, image_id=5, category_id=4, bbox=[x, y, z - x, w - y], area=2500, iscrowd=0)
            for i, (x, y, z, w) in enumerate(TRUTH)
        ],
    )
    results = [
        dict(image_id=5, category_id=4, bbox=[x, y, z - x, w - y], score=0.9 - 0.1 * i)
        for i, (x, y, z, w) in enumerate(FOUND)
    ]
    stats = [COCO_AP, COCO_AP, COCO_AP, -1, 51 / 101, -1, 0.5, 0.5, 0.5, -1, 0.5, -1]
    case = dict(source="class CocoMetric", model=dict(type="CocoMetric"), inputs=dict(ann_file=file, results=results))
    assert errors(tmp_path, dict(stats=stats), **case)["stats"] < 1e-9


@pytest.mark.parametrize("setting", ["", "half_"])
def test_eval_map(tmp_path: Path, setting: str) -> None:
    args = dict(iou_thr=0.5, eval_mode="area")
    model = {"half": args} if setting else args
    reference = {"mean_ap": [0.25], "ap": [0.25], "num_gts": [2], "num_dets": [2]}
    arrays = numbered(**{f"{setting}{name}": value for name, value in reference.items()})
    case = dict(source="mmdet/evaluation/functional/mean_ap.py: eval_map", model=model)
    assert max(errors(tmp_path, arrays, **case).values()) < 1e-9


def test_eval_map_on_lists_with_difficult_objects(tmp_path: Path) -> None:
    """The only detection finds a difficult object; the other object is missed. Inclusive coordinates decide."""
    entry = dict(bboxes=[[0, 0, 9, 9]], labels=[0], bboxes_ignore=[[50, 50, 59, 59]], labels_ignore=[0])
    inputs = dict(annotations=[entry], det_results=[[[[50, 50, 59, 59, 0.9], [0, 0, 9, 4, 0.8]], [[1, 1, 2, 2, 0.5]]]])
    case = dict(source="eval_map", inputs=inputs)
    for legacy, value in ((True, 1.0), (False, 0.0)):  # 50 of 100 pixels, or 36 of 81
        model = dict(iou_thr=0.5, use_legacy_coordinate=legacy)
        assert errors(tmp_path, dict(mean_ap=[value]), model=model, **case)["mean_ap"] < 1e-9


def test_an_unknown_layout_is_said(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no objects of pictures found in the inputs"):
        errors(tmp_path, dict(mean_ap=[0.5]), source="eval_map", model={}, inputs=dict(boxes="somewhere"))
