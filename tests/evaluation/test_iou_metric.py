"""IoUMetric against a direct, slow definition; files, errors, and the way results reach it through MMEngine."""

import logging
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.evaluation import IoUMetric, compute_confusion
from visionpatch.evaluation.iou_metric import class_table
from visionpatch.structures import DataSample

CLASSES = ("road", "car", "tree", "sky", "never")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def metric(**arguments: object) -> IoUMetric:
    made = IoUMetric(**arguments)
    made.dataset_meta = dict(classes=CLASSES, palette=[(10 * i, 20 * i, 30 * i) for i in range(5)])
    return made


def sample(prediction: np.ndarray, label: np.ndarray | None, name: str = "a.png", **meta: object) -> dict:
    made = dict(pred_sem_seg=dict(data=torch.from_numpy(prediction)[None]), img_path=name, **meta)
    if label is not None:
        made["gt_sem_seg"] = dict(data=torch.from_numpy(label)[None])
    return made


def random_pairs(number: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predictions of classes 0..3, labels of 0..2 and 255: class 3 is never labelled, class 4 never occurs."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(number):
        prediction = rng.integers(0, 4, (9 + i, 7)).astype(np.int64)
        label = np.where(rng.random(prediction.shape) < 0.6, prediction % 3, rng.integers(0, 3, prediction.shape))
        label[rng.random(prediction.shape) < 0.1] = 255
        pairs.append((prediction, label.astype(np.uint8)))
    return pairs


def slow(pairs: list, beta: float) -> dict[str, float]:
    """The definition, pixel by pixel."""
    per_class: dict[str, list[float]] = {name: [] for name in ("IoU", "Acc", "Dice", "Fscore", "Precision", "Recall")}
    pixels = [(int(p), int(g)) for a, b in pairs for p, g in zip(a.ravel(), b.ravel()) if g != 255]

    def ratio(a: float, b: float) -> float:
        return a / b if b else math.nan

    for c in range(5):
        tp = sum(p == c and g == c for p, g in pixels)
        fp = sum(p == c and g != c for p, g in pixels)
        fn = sum(p != c and g == c for p, g in pixels)
        precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
        per_class["IoU"].append(ratio(tp, tp + fp + fn))
        per_class["Acc"].append(recall)
        per_class["Dice"].append(ratio(2 * tp, 2 * tp + fp + fn))
        per_class["Precision"].append(precision)
        per_class["Recall"].append(recall)
        per_class["Fscore"].append(ratio((1 + beta**2) * precision * recall, beta**2 * precision + recall))
    means = {f"m{name}": 100 * float(np.nanmean(values)) for name, values in per_class.items()}
    return means | {"aAcc": 100 * sum(p == g for p, g in pixels) / len(pixels)}


@pytest.mark.parametrize("beta", [1, 2])
def test_equals_the_slow_definition(beta: int) -> None:
    made = metric(iou_metrics=["mIoU", "mDice", "mFscore"], beta=beta)
    made.process({}, [sample(p, g) for p, g in random_pairs()])
    results = made.evaluate(3)
    expected = slow(random_pairs(), beta)
    assert set(results) == set(expected)
    for name, value in results.items():
        assert value == pytest.approx(expected[name], abs=0.00501), name


def test_hand_computed_numbers_and_names() -> None:
    made = metric(prefix="val")
    prediction, label = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 255]], dtype=np.uint8)
    made.process({}, [sample(prediction, label)])
    # class 0: 1 / 2, class 1: 1 / 2; accuracies 1 and 1/2; 2 of 3 pixels
    assert made.evaluate(1) == {"val/aAcc": 66.67, "val/mIoU": 50.0, "val/mAcc": 75.0}


def test_absent_classes_are_left_out_or_replaced() -> None:
    prediction, label = np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8)
    plain, replaced = metric(), metric(nan_to_num=0)
    for made in (plain, replaced):
        made.process({}, [sample(prediction, label)])
    assert plain.evaluate(1)["mIoU"] == 100
    assert replaced.evaluate(1)["mIoU"] == 20


def test_only_the_true_number_of_samples_counts() -> None:
    """A distributed sampler repeats samples to fill the last round; the evaluation is told how many there are."""
    made, once = metric(), metric()
    pairs = random_pairs()
    made.process({}, [sample(p, g) for p, g in [*pairs, pairs[0]]])
    once.process({}, [sample(p, g) for p, g in pairs])
    assert made.evaluate(3) == once.evaluate(3)


def test_data_samples_arrive_through_the_evaluator() -> None:
    evaluator = Evaluator(metric())
    evaluator.dataset_meta = dict(classes=CLASSES)
    prediction, label = random_pairs(1)[0]
    given = DataSample(metainfo=dict(img_path="a.png"))
    given.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
    given.gt_sem_seg = PixelData(data=torch.from_numpy(label)[None])
    evaluator.process([given])
    assert evaluator.evaluate(1)["mIoU"] == pytest.approx(slow([(prediction, label)], 1)["mIoU"], abs=0.00501)


def test_confusion_rows_are_labels() -> None:
    confusion = compute_confusion(np.array([[1, 1, 2, 0]]), np.array([[0, 1, 1, 255]]), 3)
    assert confusion.tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_the_table_has_a_row_per_class() -> None:
    lines = class_table(("a", "b"), {"IoU": np.array([0.5, np.nan])}).splitlines()
    assert any("a" in line and "50.00" in line for line in lines)
    assert any("b" in line and "nan" in line for line in lines)


def test_errors_name_the_file_and_both_sides() -> None:
    square = np.zeros((2, 2), np.int64)
    with pytest.raises(BadSampleError, match=r"^b\.png: the label map is \(2, 3\) .* the prediction \(2, 2\)"):
        metric().process({}, [sample(square, np.zeros((2, 3), np.uint8), "b.png")])
    with pytest.raises(BadSampleError, match=r"^b\.png: label 5 found, but the data set names 5 classes"):
        metric().process({}, [sample(square, np.full((2, 2), 5, np.uint8), "b.png")])
    with pytest.raises(BadSampleError, match=r"^b\.png: prediction 6 found"):
        metric().process({}, [sample(square + 6, square.astype(np.uint8), "b.png")])
    with pytest.raises(BadSampleError, match=r"^b\.png: no gt_sem_seg"):
        metric().process({}, [sample(square, None, "b.png")])
    with pytest.raises(DataError, match="names no classes"):
        IoUMetric().process({}, [sample(square, square)])
    with pytest.raises(ConfigError, match='"mIou".*"mIoU"'):
        IoUMetric(iou_metrics="mIou")
    with pytest.raises(ConfigError, match="output_dir"):
        IoUMetric(format_only=True)


@pytest.mark.parametrize("reduced", [False, True])
def test_format_only_writes_predictions_as_the_labels_are_on_disk(tmp_path: Path, reduced: bool) -> None:
    made = metric(format_only=True, output_dir=str(tmp_path / "out"))
    prediction = np.array([[0, 1], [2, 4]])
    made.process({}, [sample(prediction, None, "images/scene.7.jpg", reduce_zero_label=reduced)])
    assert made.evaluate(1) == {}
    image = cv2.imread(str(tmp_path / "out" / "scene.7.png"))  # colours, BGR
    assert image[1, 0].tolist() == [60, 40, 20]
    pillow = pytest.importorskip("PIL.Image")
    values = np.array(pillow.open(tmp_path / "out" / "scene.7.png"))
    assert values.tolist() == (prediction + reduced).tolist()
