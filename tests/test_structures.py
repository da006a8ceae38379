"""DataSample: typed fields, metadata, conversion."""

import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from visionpatch.structures import DataSample, label_map


def test_fields_are_typed_and_survive_copies():
    sample = DataSample(metainfo=dict(img_path="a.jpg", ori_shape=(4, 6)))
    sample.gt_sem_seg = PixelData(data=torch.full((1, 4, 6), 7, dtype=torch.uint8))
    sample.pred_instances = InstanceData(bboxes=torch.zeros(2, 4), labels=torch.zeros(2))
    sample.pred_score = torch.tensor([0.1, 0.9])
    clone = sample.clone()
    assert clone.gt_sem_seg.data.sum() == 7 * 24 and len(clone.pred_instances) == 2
    assert clone.where() == "a.jpg" and "pred_label" not in clone
    assert label_map(clone).dtype == torch.int64 and label_map(clone).shape == (4, 6)
    del clone.pred_score
    assert "pred_score" not in clone and "pred_score" in sample
    assert clone.to_dict()["gt_sem_seg"]["data"].shape == (1, 4, 6)


def test_a_wrong_type_names_the_field():
    with pytest.raises(TypeError, match="DataSample.gt_sem_seg takes a PixelData, not a Tensor"):
        DataSample().gt_sem_seg = torch.zeros(1, 2, 2)
