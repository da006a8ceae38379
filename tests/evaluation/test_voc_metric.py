"""VOCMetric against cases worked out by hand and a slow restatement of the challenge's rules."""

import logging
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.scenes import CLASSES, fields, scene
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.evaluation import VOCMetric
from visionpatch.evaluation.voc_metric import average_precision, ious
from visionpatch.structures import DataSample


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def numbers(samples: list[dict], classes: tuple[str, ...] = CLASSES, **arguments: Any) -> dict[str, float]:
    made = VOCMetric(**arguments)
    made.dataset_meta = dict(classes=classes)
    made.process({}, samples)
    return {name.removeprefix("pascal_voc/"): value for name, value in made.evaluate(len(samples)).items()}


def slow(samples: list[dict], label: int, threshold: float, mode: str) -> float:
    """The rules, one detection of the whole set after the other."""
    objects, detections = [], []
    for place, sample in enumerate(samples):
        for key in ("gt_instances", "ignored_instances"):
            for box, of in zip(sample[key]["bboxes"].tolist(), sample[key]["labels"].tolist()):
                if of == label:
                    objects.append(dict(place=place, box=box, difficult=key == "ignored_instances", used=False))
        found = sample["pred_instances"]
        for box, of, score in zip(found["bboxes"].tolist(), found["labels"].tolist(), found["scores"].tolist()):
            if of == label:
                detections.append((score, place, box))
    total = sum(not entry["difficult"] for entry in objects)
    if not total:
        return float("nan")
    points, right, wrong = [], 0, 0
    for _, place, box in sorted(detections, key=lambda entry: -entry[0]):
        best, target = 0.0, None
        for entry in objects:
            if entry["place"] == place and overlap(box, entry["box"]) > best:
                best, target = overlap(box, entry["box"]), entry
        if target is None or best < threshold:
            wrong += 1
        elif not target["difficult"]:
            right, wrong = right + (not target["used"]), wrong + target["used"]
            target["used"] = True
        points.append((right / total, right / max(right + wrong, 1e-9)))
    if mode == "11points":
        return sum(max((p for r, p in points if r >= 0.1 * level), default=0) for level in range(11)) / 11
    area, before = 0.0, 0.0
    for recall in sorted({r for r, _ in points}):
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return area


def overlap(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("mode", ["area", "11points"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_slow_definition(mode: str, seed: int) -> None:
    samples = [scene(i, seed) for i in range(13)]
    for sample in samples:  # ties are left to the order of the pictures
        scores = sample["pred_instances"]["scores"]
        sample["pred_instances"]["scores"] = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed))
        seed += 100
    found = numbers(samples, eval_mode=mode, iou_thrs=[0.5, 0.7], classwise=True)
    for threshold, name in ((0.5, "AP50"), (0.7, "AP70")):
        expected = [slow(samples, label, threshold, mode) for label in range(3)]
        for label, value in zip(CLASSES, expected, strict=True):
            assert found[f"{label}_{name}"] == pytest.approx(value, abs=1e-9)
        assert found[name] == pytest.approx(np.mean(expected), abs=1e-9) and 0.1 < found[name] < 0.95
    assert found["mAP"] == pytest.approx((found["AP50"] + found["AP70"]) / 2)


FAR = [100.0, 100, 120, 120]
NEAR, SHIFTED = [0.0, 0, 10, 10], [0.0, 0, 10, 8]


def one_class(truth: list, difficult: list, found: list, scores: list[float]) -> dict:
    made = [np.array(boxes, dtype=float).reshape(-1, 4) for boxes in (truth, difficult, found)]
    return dict(
        img_path="a.png",
        gt_instances=fields(made[0], np.zeros(len(truth))),
        ignored_instances=fields(made[1], np.zeros(len(difficult))),
        pred_instances=fields(made[2], np.zeros(len(found)), np.array(scores, dtype=float)),
    )


@pytest.mark.parametrize(
    ("truth", "difficult", "found", "scores", "area", "points"),
    [
        # found, found again, missed: precision 1, 1/2 at recall 1/2
        ([NEAR, FAR], [], [NEAR, SHIFTED], [0.9, 0.8], 1 / 2, 6 / 11),
        # wrong, right, right: precision 0, 1/2, 2/3; the envelope is 2/3
        ([NEAR, FAR], [], [[50, 50, 60, 60], NEAR, FAR], [0.9, 0.8, 0.7], 2 / 3, 2 / 3),
        # right, wrong, right: precision 1 to recall 1/2, 2/3 to recall 1
        ([NEAR, FAR], [], [NEAR, [50, 50, 60, 60], FAR], [0.9, 0.8, 0.7], 5 / 6, (6 + 5 * 2 / 3) / 11),
        # a difficult object is neither to be found nor wrong
        ([FAR], [NEAR], [NEAR, SHIFTED, FAR], [0.9, 0.8, 0.7], 1, 1),
        # the best overlap decides: the copy of a difficult object does not count for its neighbour
        ([SHIFTED], [NEAR], [NEAR], [0.9], 0, 0),
        # an overlap of exactly the threshold is enough
        ([[0, 0, 10, 10]], [], [[0, 0, 10, 5]], [0.9], 1, 1),
        ([NEAR], [], [], [], 0, 0),
    ],
)
def test_by_hand(truth: list, difficult: list, found: list, scores: list, area: float, points: float) -> None:
    sample = one_class(truth, difficult, found, scores)
    assert numbers([sample], ("a",))["mAP"] == pytest.approx(area)
    assert numbers([sample], ("a",), eval_mode="11points")["AP50"] == pytest.approx(points)


def test_curves() -> None:
    recall, precision = np.array([0.25, 0.25, 0.5, 0.75]), np.array([1, 0.5, 0.6, 0.7])
    assert average_precision(recall, precision) == pytest.approx(0.25 + 0.5 * 0.7)
    assert average_precision(recall, precision, "11points") == pytest.approx((3 + 5 * 0.7) / 11)
    assert average_precision(np.zeros(0), np.zeros(0)) == average_precision(np.zeros(0), np.zeros(0), "11points") == 0
    assert ious(np.array([[0.0, 0, 2, 2], [3, 3, 3, 3]]), np.array([[1.0, 0, 3, 2], [3, 3, 3, 3]])).tolist() == [
        [pytest.approx(1 / 3), 0],
        [0, 0],
    ]


def test_classes_without_objects_do_not_count_and_nothing_is_defined() -> None:
    sample = one_class([NEAR], [], [NEAR], [0.5])
    assert numbers([sample], CLASSES) == {"mAP": 1, "AP50": 1}
    each = numbers([sample], CLASSES, classwise=True)
    assert [each[f"{name}_AP50"] for name in CLASSES] == [1, -1, -1]
    assert numbers([one_class([], [NEAR], [NEAR], [0.5])]) == {"mAP": 0, "AP50": 0}
    assert numbers([one_class([], [], [], [])]) == {"mAP": 0, "AP50": 0}


def test_errors() -> None:
    with pytest.raises(ConfigError, match='"11point".*"11points"'):
        VOCMetric(eval_mode="11point")
    with pytest.raises(ConfigError, match="iou_thrs = 50; thresholds above 0 and up to 1"):
        VOCMetric(iou_thrs=50)
    with pytest.raises(DataError, match="names no classes"):
        VOCMetric().process({}, [scene(0)])
    bare = DataSample(metainfo=dict(img_path="0.png"))
    with pytest.raises(DataError, match=r"^0\.png: VOCMetric needs gt_instances .* with_bbox=True\)"):
        VOCMetric().check_sample(bare)
    sample = {key: value for key, value in scene(0).items() if key != "gt_instances"}
    with pytest.raises(BadSampleError, match=r"^0\.png: no gt_instances"):
        numbers([sample])
