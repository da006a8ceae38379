"""Top-k accuracy of classification."""

import pytest
import torch

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.evaluation import Accuracy


def sample(scores: list[float], label: int) -> dict:
    return dict(pred_score=torch.tensor(scores), gt_label=torch.tensor([label]), img_path="a.png")


def evaluate(samples: list[dict], **arguments: object) -> dict[str, float]:
    metric = Accuracy(**arguments)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_top_k() -> None:
    scores = [0.1, 0.4, 0.2, 0.3]
    results = evaluate([sample(scores, label) for label in range(4)], topk=(1, 2, 5))
    assert results == {"accuracy/top1": 25.0, "accuracy/top2": 50.0, "accuracy/top5": 100.0}


def test_ties_go_to_the_smaller_index_and_nan_is_never_right() -> None:
    assert evaluate([sample([0.5, 0.5], 0), sample([0.5, 0.5], 1)], topk=1) == {"accuracy/top1": 50.0}
    assert evaluate([sample([float("nan")] * 3, label) for label in range(3)], topk=1) == {"accuracy/top1": 0.0}


def test_labels_alone_give_top_one() -> None:
    given = [dict(pred_label=torch.tensor([2]), gt_label=torch.tensor([label])) for label in (2, 1)]
    assert evaluate(given, topk=1, prefix="cls") == {"cls/top1": 50.0}
    with pytest.raises(ConfigError, match="needs pred_score"):
        evaluate(given, topk=(1, 5))


def test_errors() -> None:
    with pytest.raises(ConfigError, match="topk=0"):
        Accuracy(topk=0)
    with pytest.raises(BadSampleError, match="a.png: label 3, but the model predicts 2 classes"):
        evaluate([sample([0.5, 0.5], 3)])
    with pytest.raises(BadSampleError, match="no gt_label"):
        evaluate([dict(pred_label=torch.tensor([2]))])
