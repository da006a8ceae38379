"""DependencyReader: maps of the picture's own size, equal to what the backbone's dependencies say, and its errors."""

import pytest
import torch
from mmengine.structures import PixelData
from torch import nn

from visionpatch.errors import ConfigError
from visionpatch.evaluation import PartMetric, SaliencyMetric
from visionpatch.layers.dependency_tree import decode_tree, tree_parts
from visionpatch.models import Classifier, DependencyReader
from visionpatch.structures import DataSample

BACKBONE = dict(
    type="DependencyViT", arch=dict(embed_dims=24, num_layers=2, num_heads=3), img_size=64, out_indices=-1,
    pool="message",
)  # fmt: skip


def reader(**options) -> DependencyReader:
    torch.manual_seed(0)
    made = DependencyReader(BACKBONE, **options).eval()
    for block in made.backbone.blocks:
        nn.init.normal_(block.attn.qkv.weight, std=0.3)
        nn.init.normal_(block.attn.message_controller.fc2.weight, std=3.0)
    return made


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 80, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("by", ["message", "received"])
def test_it_says_what_the_dependencies_say(by: str):
    model, image = reader(saliency=by, parts=3), images(1)
    sample = DataSample(metainfo=dict(img_shape=(70, 64), ori_shape=(70, 64)))  # 10 rows are padding
    with torch.no_grad():
        (found,) = model(image, [sample], mode="predict")
        info = model.backbone.dependency(image[:, :, :70])
    assert torch.equal(found.pred_saliency.data, info.saliency((80, 64), by)[:, :70])
    tokens = torch.from_numpy(tree_parts(decode_tree(info.total()[0]), info.received()[0], 3)).view(5, 4)
    assert torch.equal(found.pred_sem_seg.data[0, ::16, ::16], tokens)
    assert torch.equal(found.pred_sem_seg.data[0, 15:70:16, 15::16], tokens[:4])


def test_maps_have_the_size_of_the_file():
    sample = DataSample(metainfo=dict(img_shape=(80, 64), ori_shape=(160, 128)))
    with torch.no_grad():
        (found,) = reader(parts=3)(images(1), [sample], mode="predict")
        (small,) = reader(parts=3)(images(1), mode="predict")
    assert found.pred_saliency.shape == found.pred_sem_seg.shape == (160, 128)
    assert torch.equal(found.pred_sem_seg.data[:, ::2, ::2], small.pred_sem_seg.data)
    assert found.pred_saliency.data.min() >= 0 and found.pred_saliency.data.max() <= 1


def test_a_picture_alone_is_as_in_a_batch():
    model = reader()
    with torch.no_grad():
        both, alone = model(images()), model(images()[1:])
    assert both.shape == (2, 80, 64)
    assert torch.allclose(both[1:], alone, atol=1e-6)


def test_a_classifier_s_weights_fit_and_metrics_take_the_result():
    trained = Classifier(BACKBONE, dict(type="LinearClsHead", in_channels=24, num_classes=3)).state_dict()
    model = reader(parts=2)
    assert model.load_state_dict(trained, strict=False).missing_keys == []
    sample = DataSample(metainfo=dict(img_shape=(80, 64)))
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 80, 64, dtype=torch.uint8))
    with torch.no_grad():
        (found,) = model(images(1), [sample], mode="predict")
    for metric in (SaliencyMetric(), PartMetric()):
        metric.process(None, [found.to_dict()])
        assert all(0 <= value <= 100 for value in metric.evaluate(1).values())


def test_wrong_use():
    with pytest.raises(ConfigError, match="model.backbone = ResNet; DependencyReader reads a DependencyViT only"):
        DependencyReader(dict(type="ResNet", depth=18))
    with pytest.raises(ConfigError, match='model.saliency = "receives".*"received"'):
        reader(saliency="receives")
    with pytest.raises(ConfigError, match="model.parts = 0"):
        reader(parts=0)
    with pytest.raises(ConfigError, match="learns nothing"):
        reader()(images(), mode="loss")
    with pytest.raises(ConfigError, match='mode = "predic".*predict'):
        reader()(images(), mode="predic")
