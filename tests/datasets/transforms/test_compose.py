"""Pipelines: built from dicts, strict about names and arguments; packing at their end."""

import numpy as np
import pytest
import torch

from visionpatch.datasets.transforms import BaseTransform, Compose, LoadImage, PackInputs, RandomCrop
from visionpatch.errors import ConfigError
from visionpatch.structures import DataSample


class TestCompose:
    def test_dicts_classes_and_callables(self):
        pipeline = Compose(
            [dict(type="Resize", scale=(4, 4)), dict(type=RandomCrop, crop_size=2), lambda r: r["img"].shape]
        )
        assert pipeline(dict(img=np.zeros((8, 8, 3), np.uint8))) == (2, 2, 3)

    def test_unknown_name(self):
        with pytest.raises(
            ConfigError, match=r'pipeline\[1\]: unknown transform "RandomCorp"; did you mean "RandomCrop"'
        ):
            Compose([dict(type="LoadImage"), dict(type="RandomCorp", crop_size=2)])

    def test_unknown_argument(self):
        with pytest.raises(ConfigError, match=r'pipeline\[0\] \(Resize\).*"scales".*did you mean "scale"'):
            Compose([dict(type="Resize", scales=(4, 4))])

    def test_missing_argument(self):
        with pytest.raises(ConfigError, match=r"pipeline\[0\] \(RandomCrop\) needs the argument crop_size"):
            Compose([dict(type="RandomCrop")])

    def test_wrong_value(self):
        with pytest.raises(ConfigError, match=r"pipeline\[0\] \(RandomCrop\).*cat_max_ratio"):
            Compose([dict(type="RandomCrop", crop_size=2, cat_max_ratio=7)])

    @pytest.mark.parametrize("wrong", [dict(type="LoadImage"), "LoadImage", 3])
    def test_not_a_list(self, wrong):
        with pytest.raises(ConfigError):
            Compose(wrong)

    def test_no_type(self):
        with pytest.raises(ConfigError, match='"type"'):
            Compose([dict(scale=3)])

    def test_key_that_nobody_made(self):
        with pytest.raises(ConfigError, match=r"pipeline\[0\] \(RandomCrop\) needs the key 'img'"):
            Compose([dict(type="RandomCrop", crop_size=2)])(dict(img_path="a.jpg"))

    def test_nothing_returned(self):
        assert Compose([lambda r: None, lambda r: 1 / 0])(dict()) is None

    def test_names_of_mmcv_are_found(self):
        mmcv = pytest.importorskip("mmcv.transforms")
        pipeline = Compose([dict(type="RandomGrayscale", prob=0.5), dict(type="mmcv.Resize", scale=(4, 4))])
        assert [type(t) for t in pipeline.transforms] == [mmcv.RandomGrayscale, mmcv.Resize]

    def test_names_of_openmmlab_mean_ours(self):
        kinds = [type(t) for t in Compose([dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]).transforms]
        assert kinds == [LoadImage, PackInputs]

    def test_repr_shows_arguments(self):
        assert "RandomCrop(crop_size=(2, 2)" in repr(Compose([dict(type="RandomCrop", crop_size=2)]))

    def test_base_is_abstract(self):
        with pytest.raises(TypeError):
            BaseTransform()


class TestPack:
    def test_image_is_a_view(self):
        image = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
        inputs = PackInputs()(dict(img=image))["inputs"]
        assert (inputs.shape, inputs.dtype) == ((3, 4, 6), torch.uint8)
        assert inputs.data_ptr() == image.ctypes.data
        assert np.array_equal(inputs.permute(1, 2, 0).numpy(), image)

    def test_a_crop_carries_only_itself(self):
        image = np.zeros((100, 100, 3), np.uint8)
        packed = PackInputs()(dict(img=image[10:14, 5:9], gt_seg_map=image[10:14, 5:9, 0]))
        assert packed["inputs"].untyped_storage().nbytes() == 48
        assert packed["data_samples"].gt_sem_seg.data.untyped_storage().nbytes() == 16

    def test_16_bits(self):
        assert PackInputs()(dict(img=np.full((2, 2, 3), 60000, np.uint16)))["inputs"].dtype == torch.uint16

    def test_truth_and_metadata(self):
        given = dict(
            img=np.zeros((2, 3, 3), np.uint8),
            gt_seg_map=np.arange(6, dtype=np.uint8).reshape(2, 3),
            gt_label=4,
            img_path="a.jpg",
            ori_shape=(2, 3),
            other=1,
        )
        sample = PackInputs()(given)["data_samples"]
        assert isinstance(sample, DataSample)
        assert sample.gt_sem_seg.data.tolist() == [[[0, 1, 2], [3, 4, 5]]]
        assert (sample.gt_label.tolist(), sample.gt_label.dtype) == ([4], torch.int64)
        assert sample.metainfo == dict(img_path="a.jpg", ori_shape=(2, 3))
