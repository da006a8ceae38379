"""FewShotMetric against numbers worked out by hand, and what it does with nothing or with something wrong."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from visionpatch.errors import BadSampleError, DataError
from visionpatch.evaluation import FewShotMetric
from visionpatch.evaluation.few_shot_metric import episode_areas, half_width
from visionpatch.structures import DataSample

CLASSES = ("background", "ant", "bee", "cat", "dog")
META = dict(classes=CLASSES, novel_ids=(1, 2, 4), base_ids=(3,))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def metric(**arguments: Any) -> FewShotMetric:
    made = FewShotMetric(**arguments)
    made.dataset_meta = META
    return made


def episode(prediction: Any, label: Any, class_id: int = 1, **meta: Any) -> dict[str, Any]:
    maps = dict(pred_sem_seg=prediction, gt_sem_seg=label)
    made = {key: dict(data=torch.as_tensor(np.array(value))[None]) for key, value in maps.items()}
    return made | dict(class_id=class_id, img_path="a.png") | meta


FIRST = episode([[1, 1, 0, 0, 1]], [[1, 0, 1, 0, 255]], 1)  # I1 U1 = 1 3, I0 U0 = 1 3
SECOND = episode([[1, 1, 0, 0, 0]], [[1, 1, 0, 0, 0]], 1)  # 2 2, 3 3
THIRD = episode([[0, 0, 0, 1]], [[0, 0, 1, 1]], 2)  # 1 2, 2 3


def test_numbers_by_hand() -> None:
    made = metric(classwise=True)
    made.process({}, [FIRST, SECOND])
    made.process({}, [THIRD])
    numbers = made.evaluate(3)
    ant, bee = 3 / 5, 1 / 2
    objects, rest = 4 / 7, 6 / 9
    expected = dict(mIoU=(ant + bee + 0) / 3, FBIoU=(objects + rest) / 2, pIoU=objects)
    expected |= dict(ant_IoU=ant, bee_IoU=bee, dog_IoU=0)  # no episode asked for a dog: it counts as 0
    assert numbers == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-6)


def test_the_sums_are_over_episodes_not_the_mean_of_ious() -> None:
    made = metric()
    made.process({}, [FIRST, SECOND])
    assert made.evaluate(2)["mIoU"] == pytest.approx(100 * 3 / 5 / 3)  # not (1/3 + 1) / 2 / 3


def test_areas_against_counting() -> None:
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 2, (9, 11)), rng.choice([0, 1, 255], (9, 11))
    pairs = [(int(p), int(g)) for p, g in zip(prediction.ravel(), label.ravel()) if g != 255]
    counted = []
    for k in (0, 1):
        both = sum(p == k and g == k for p, g in pairs)
        counted += [both, sum(p == k for p, _ in pairs) + sum(g == k for _, g in pairs) - both]
    assert episode_areas(prediction, label) == tuple(counted)
    assert episode_areas(prediction[:0], label[:0]) == (0, 0, 0, 0)


def test_no_episode_and_nothing_but_ignored_pixels() -> None:
    assert metric().evaluate(0) == dict(mIoU=0, FBIoU=0, pIoU=0)
    made = metric()
    made.process({}, [episode([[0, 1]], [[255, 255]])])
    assert made.evaluate(1) == dict(mIoU=0, FBIoU=0, pIoU=0)
    made.process({}, [episode([[0, 0]], [[0, 0]])])  # the object is nowhere, and not found
    assert made.evaluate(1) == pytest.approx(dict(mIoU=0, FBIoU=50, pIoU=0))


def test_several_runs_give_a_mean_and_an_interval() -> None:
    right, half = ([[1, 0]], [[1, 0]]), ([[1, 1]], [[1, 0]])
    made = metric()
    made.process(
        {}, [episode(*pair, class_id=c, run=r) for r, pair in enumerate([right, half, half]) for c in (1, 2, 4)]
    )
    numbers = made.evaluate(9)
    assert numbers["mIoU"] == pytest.approx(100 * (1 + 0.5 + 0.5) / 3)
    spread = np.std([100, 50, 50], ddof=1) / math.sqrt(3)
    assert numbers["mIoU_ci95"] == pytest.approx(4.302653 * spread, rel=1e-6)
    assert set(numbers) == {f"{name}{end}" for name in ("mIoU", "FBIoU", "pIoU") for end in ("", "_ci95")}
    assert half_width([1.0, 3.0]) == pytest.approx(12.7062 * 1, rel=1e-5)


def test_only_the_true_number_of_episodes_counts() -> None:
    made, once = metric(), metric()
    made.process({}, [FIRST, SECOND, THIRD, FIRST])
    once.process({}, [FIRST, SECOND, THIRD])
    assert made.evaluate(3) == once.evaluate(3)


def test_samples_arrive_through_the_evaluator() -> None:
    evaluator = Evaluator(metric())
    evaluator.dataset_meta = META
    sample = DataSample(metainfo=dict(img_path="a.png", class_id=2, run=0))
    sample.pred_sem_seg = PixelData(data=torch.tensor([[[1, 0, 0]]]))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[1, 1, 0]]], dtype=torch.uint8))
    sample.support = [DataSample(metainfo=dict(img_path="b.png"))]
    evaluator.process([sample])
    assert evaluator.evaluate(1)["mIoU"] == pytest.approx(50 / 3)


def test_errors() -> None:
    with pytest.raises(BadSampleError, match=r"^a\.png: the label map is \(1, 3\) .*the prediction \(1, 2\)"):
        metric().process({}, [episode([[0, 1]], [[0, 1, 1]])])
    with pytest.raises(BadSampleError, match=r"^a\.png: label 5 found, .*SelectClass"):
        metric().process({}, [episode([[0, 1]], [[0, 5]])])
    with pytest.raises(BadSampleError, match=r"^a\.png: prediction 2 found"):
        metric().process({}, [episode([[2, 1]], [[0, 1]])])
    with pytest.raises(BadSampleError, match=r"^a\.png: no class_id in"):
        metric().process({}, [{k: v for k, v in FIRST.items() if k != "class_id"}])
    plain = FewShotMetric()
    plain.dataset_meta = dict(classes=CLASSES)
    with pytest.raises(DataError, match="no novel_ids; take an EpisodeDataset"):
        plain.evaluate(0)
    with pytest.raises(DataError, match=r"^a\.png: FewShotMetric needs gt_sem_seg and class_id"):
        metric().check_sample(DataSample(metainfo=dict(img_path="a.png")))
