"""Faults 10 to 13, 15, 16 and 21 to 23 where they concern data: images, masks, split lists, paths, metrics."""

import math
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor

from visionpatch.datasets import (
    Episode,
    EpisodeDataset,
    FolderDataset,
    ImageFolderDataset,
    ListFileDataset,
    PascalVOCDataset,
)
from visionpatch.datasets.checking import check_dataset
from visionpatch.datasets.sample_set import CLASSES, make_sample_dataset
from visionpatch.datasets.transforms import LoadAnnotations, LoadImage, ResizeEdge
from visionpatch.engine.state_dicts import load_state
from visionpatch.errors import BadSampleError, ConfigError, DataError, WeightsError
from visionpatch.evaluation import FPR95, Accuracy, IoUMetric
from visionpatch.models import ImageTokenizer, MaskedTokenGenerator, PatchMatcher
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

from .expect import expect

LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackInputs")]
IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8), (5, 5), 0)


def encode(suffix, image=IMAGE):
    return cv2.imencode(suffix, image)[1].tobytes()


def load(path, **kwargs):
    return LoadImage(**kwargs)(dict(img_path=str(path)))["img"]


def refused(path, *parts, **kwargs):
    """Reading `path` fails in one line that begins with it and holds every part."""
    with pytest.raises(BadSampleError) as error:
        load(path, **kwargs)
    text = str(error.value)
    expect(text.startswith(f"{path}: ") and "\n" not in text, text)
    for part in parts:
        expect(part in text, text)


@pytest.fixture
def root(tmp_path):
    """A folder in VOC layout: 4 + 2 pictures of 32 x 32."""
    return make_sample_dataset(tmp_path, train=4, val=2, size=32)


def voc(root, split="train", **kwargs):
    arguments = dict(metainfo=dict(classes=CLASSES), pipeline=LOAD)
    return PascalVOCDataset(
        data_root=str(root), ann_file=f"ImageSets/Segmentation/{split}.txt", **{**arguments, **kwargs}
    )


# 10: files that are no pictures


def test_fault_10_missing_empty_or_something_else(tmp_path):
    refused(tmp_path / "a.jpg", "does not exist")
    (tmp_path / "a.jpg").touch()
    refused(tmp_path / "a.jpg", "empty (0 bytes)")
    (tmp_path / "a.jpg").write_text("no picture at all")
    refused(tmp_path / "a.jpg", "not an image", "17 bytes")
    refused(tmp_path, "cannot be read")
    refused(f"{tmp_path}/a\0.jpg", "cannot be read")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    refused(tmp_path / "link.jpg", "does not exist", "gone.jpg")
    (tmp_path / "list.csv").write_text("file,class_index\n")
    (tmp_path / "a.png").write_bytes((tmp_path / "list.csv").read_bytes())
    refused(tmp_path / "a.png", "not an image")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp", ".ppm", ".jp2"])
def test_fault_10_cut_anywhere(tmp_path, suffix):
    data, path = encode(suffix), tmp_path / f"a{suffix}"
    for part in np.linspace(1, len(data) - 1, 25).astype(int):
        path.write_bytes(data[:part])
        refused(path)


def test_fault_10_a_jpeg_that_opencv_completes_with_grey(tmp_path):
    data, path = encode(".jpg"), tmp_path / "a.jpg"
    half = data[: len(data) // 2]
    for damaged in (half + b"\xff\xd9", half + bytes(500), half + data):
        decoded = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR)
        expect(decoded is None or decoded.shape == IMAGE.shape)
        path.write_bytes(damaged)
        refused(path, "truncated")
    grey = np.full((40, 40, 3), 128, np.uint8)
    path.write_bytes(encode(".jpg", grey))
    expect((load(path) == 128).all(), "a whole picture of that grey is accepted")


def test_fault_10_the_dataset_names_the_file_and_the_check_finds_it(root):
    first = voc(root).get_data_info(0)["img_path"]
    Path(first).write_bytes(Path(first).read_bytes()[:300])
    with pytest.raises(BadSampleError, match=f"^{re.escape(first)}: "):
        voc(root)[0]
    expect([len(cases) for cases in check_dataset(voc(root)).problems.values()] == [1])


# 11: kinds of pictures


def test_fault_11_converted_by_rule(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    picture = pil.new("RGB", (16, 8), (200, 30, 60))
    cases = dict(L="PNG", P="PNG", CMYK="JPEG", RGB="BMP")
    for mode, kind in cases.items():
        picture.convert(mode).save(tmp_path / "a", kind)
        image = load(tmp_path / "a")
        expect(image.shape == (8, 16, 3) and image.dtype == np.uint8, mode)
        target = np.array(picture.convert(mode).convert("RGB"))[..., ::-1].astype(int)
        expect(np.abs(image - target).max() < 12, mode)
    exif = picture.getexif()
    exif[274] = 6
    for kind in ("JPEG", "PNG", "TIFF"):
        picture.save(tmp_path / "a", kind, exif=exif)
        expect(load(tmp_path / "a").shape == (16, 8, 3), kind)
        expect(load(tmp_path / "a", ignore_orientation=True).shape == (8, 16, 3), kind)


def test_fault_11_16_bits_are_kept(tmp_path):
    thermal = np.random.default_rng(0).integers(20000, 40000, (9, 7), dtype=np.uint16)
    for suffix in (".png", ".tif"):
        (tmp_path / "a").write_bytes(encode(suffix, thermal))
        image = load(tmp_path / "a")
        expect(image.dtype == np.uint16 and np.array_equal(image, np.stack([thermal] * 3, -1)), suffix)


def test_fault_11_refused_with_the_remedy(tmp_path):
    (tmp_path / "a").write_bytes(encode(".png", np.dstack([IMAGE, IMAGE[..., :1]])))
    refused(tmp_path / "a", "alpha channel", 'alpha="drop"')
    expect(np.array_equal(load(tmp_path / "a", alpha="drop"), IMAGE))
    (tmp_path / "a").write_bytes(encode(".tif", IMAGE.astype(np.float32)))
    refused(tmp_path / "a", "float32", "16-bit PNG")
    pil = pytest.importorskip("PIL.Image").fromarray(IMAGE)
    pil.convert("CMYK").save(tmp_path / "a", "TIFF")
    for alpha in ("error", "drop"):
        refused(tmp_path / "a", "CMYK", "RGB", alpha=alpha)
    pil.convert("LA").save(tmp_path / "a", "TIFF")
    refused(tmp_path / "a", "alpha channel")


# 12: sizes


def bombs():
    """Small files whose headers announce 65,000 x 65,000 pixels."""
    side = 65000
    png = bytearray(encode(".png"))
    png[16:24] = struct.pack(">II", side, side)
    jpeg = bytearray(encode(".jpg"))
    frame = jpeg.find(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encode(".bmp"))
    bmp[18:26] = struct.pack("<ii", side, -side)
    tif = bytearray(encode(".tif"))
    tags = int.from_bytes(tif[4:8], "little")
    for at in range(tags + 2, tags + 2 + 12 * int.from_bytes(tif[tags : tags + 2], "little"), 12):
        if int.from_bytes(tif[at : at + 2], "little") in (256, 257):
            tif[at : at + 12] = tif[at : at + 2] + struct.pack("<HII", 4, 1, side)
    gif = b"GIF89a" + struct.pack("<HH", side, side) + bytes(20)
    pgm = f"P5\n# big\n{side} {side}\n255\n".encode() + bytes(50)
    webp = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + (b"\xe7\xfd\0") * 2 + bytes(8)
    return dict(png=bytes(png), jpg=bytes(jpeg), bmp=bytes(bmp), tif=bytes(tif), gif=gif, pgm=pgm, webp=webp)


@pytest.mark.parametrize("kind", list(bombs()))
def test_fault_12_huge_by_its_header(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(cv2, "imdecode", None)  # nothing is decoded
    path = tmp_path / f"a.{kind}"
    path.write_bytes(bombs()[kind])
    refused(path, "65000x65000 pixels by its header", "max_pixels")
    with pytest.raises(BadSampleError, match="65000x65000"):
        LoadAnnotations()(dict(seg_path=str(path)))


def test_fault_12_the_limit_can_be_set(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(".png"))
    expect(load(tmp_path / "a.png", max_pixels=4800).shape == (60, 80, 3))
    refused(tmp_path / "a.png", "80x60 pixels", "4799", max_pixels=4799)
    with pytest.raises(ConfigError, match="max_pixels"):
        LoadImage(max_pixels=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5)])
def test_fault_12_smaller_than_a_patch_is_padded(tmp_path, size):
    for folder, value in (("images", 90), ("masks", 1)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.full((size[1], size[0]), value, np.uint8))
    pipeline = [
        *LOAD[:2],
        dict(type="RandomResize", scale=(64, 32), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type="RandomCrop", crop_size=32),
        dict(type="RandomFlip", prob=0.5),
        dict(type="Pad", size=(32, 32)),
        LOAD[2],
    ]
    prefix = dict(img_path="images", seg_map_path="masks")
    meta = dict(classes=("a", "b"))
    data = FolderDataset(data_root=str(tmp_path), data_prefix=prefix, metainfo=meta, pipeline=pipeline)
    for key in range(5):
        sample = data[key]
        expect(sample["inputs"].shape == (3, 32, 32))
        expect(set(sample["data_samples"].gt_sem_seg.data.unique().tolist()) <= {1, 255})
    net = MODELS.build(dict(type="EfficientNetLite", arch="lite0")).eval()
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, size[1], size[0]))
    expect(all(m.isfinite().all() and min(m.shape) >= 1 for m in maps))


def test_fault_12_a_resize_that_would_explode():
    results = dict(img=np.zeros((1, 60000, 3), np.uint8), img_path="thin.png")
    with pytest.raises(BadSampleError, match=r"^thin\.png: 60000x1 pixels would become 30720000x512.*long edge"):
        ResizeEdge(512)(results)


# 13: masks


@pytest.mark.parametrize(
    "mask, parts",
    [
        (np.zeros((31, 32), np.uint8), ("the mask is 32x31", "is 32x32")),
        (np.zeros((32, 32, 3), np.uint8), ("colour picture with 3 channels", "palette PNG")),
        (np.full((32, 32), 99, np.uint8), ("99 (1024 px)", "21 classes", "255 = ignored")),
        (np.full((32, 32), 999, np.uint16), ("up to 999",)),
    ],
)
def test_fault_13_wrong_masks(root, mask, parts):
    path = voc(root).get_data_info(1)["seg_path"]
    cv2.imwrite(path, mask)
    with pytest.raises(BadSampleError) as error:
        voc(root)[1]
    expect(str(error.value).startswith(f"{path}: ") and all(part in str(error.value) for part in parts), error.value)
    expect(len(check_dataset(voc(root)).problems["unusable mask"]) == 1)


def test_fault_13_255_and_a_palette_are_fine(root):
    pil = pytest.importorskip("PIL.Image")
    path = voc(root).get_data_info(0)["seg_path"]
    expect(pil.open(path).mode == "P")
    expect(np.array_equal(voc(root)[0]["data_samples"].gt_sem_seg.data[0].numpy(), np.array(pil.open(path))))


# 15: split lists


def test_fault_15_a_split_list_naming_missing_files(root):
    split = root / "ImageSets/Segmentation/train.txt"
    split.write_text(split.read_text() + "sample_9\nsample_10\n")
    with pytest.raises(DataError, match=r"train\.txt: 2 of 6 samples have no image: sample_9, sample_10 \(expected "):
        voc(root)
    split.write_text("sample_000000\n")
    (root / "SegmentationClass/sample_000000.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 1 samples have no mask: sample_000000 .*SegmentationClass holds 5 \.png"
    ):
        voc(root)


def test_fault_15_how_lists_are_written(root):
    split = root / "ImageSets/Segmentation/train.txt"
    names = [f"sample_{i:06d}" for i in range(3)]
    split.write_bytes(f"\ufeff{names[0]}\r\n\r\n  {names[1]}.jpg\t\r\n\n{names[2]}\r\n{names[0]}".encode())
    data = voc(root)
    expect(data.stems == [*names, names[0]])
    expect(len(check_dataset(data).problems["listed twice"]) == 1)
    split.write_bytes("\n".join(names).encode("utf-16"))
    with pytest.raises(DataError, match=r"train\.txt: split list \(ann_file\) cannot be read"):
        voc(root)


@pytest.fixture
def few(tmp_path):
    """Three pictures of an ant, two of a bee, one of both; the mask of the last is larger than its picture."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, (ant, bee, side) in enumerate([(1, 0, 80), (1, 0, 80), (0, 1, 80), (1, 1, 80), (0, 0, 90)]):
        mask = np.zeros((60, side), np.uint8)
        mask[:, :30], mask[:, 40:] = ant, 2 * bee
        cv2.imwrite(str(tmp_path / f"images/{number}.jpg"), IMAGE)
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), mask)
    return tmp_path


FEW_LOAD = [*LOAD[:2], dict(type="SelectClass")]


def few_shot(folder, **kwargs):
    prefix = dict(img_path="images", seg_map_path="masks")
    meta = dict(classes=("background", "ant", "bee"))
    pictures = dict(type="FolderDataset", data_root=str(folder), data_prefix=prefix, metainfo=meta)
    arguments = dict(novel_classes=("ant", "bee"), min_pixels=100, test_mode=True, pipeline=[*FEW_LOAD, LOAD[2]])
    return EpisodeDataset(pictures, **{**arguments, **kwargs})


def test_fault_15_a_class_with_fewer_than_k_plus_1_pictures(few):
    expect(len(few_shot(few)) == 4)
    with pytest.raises(DataError, match=r"1 of 2 novel classes count in fewer than 3 of the 5 pictures.*: bee \(2\)"):
        few_shot(few, shot=2)
    left = few_shot(few, shot=2, rare_classes="drop")
    expect(left.metainfo["novel_ids"] == (1,) and len(left) == 3 and len(left[0]["data_samples"].support) == 2)
    kept = few_shot(few, shot=2, rare_classes="keep")
    with pytest.raises(DataError, match=r"class 2 counts in 1 pictures besides the query"):
        kept[2]  # ends: there is no endless search for a third picture
    with pytest.raises(DataError, match="2 of 2 novel classes count in fewer than 2 .* ant \\(0\\), bee \\(0\\)"):
        few_shot(few, min_pixels=60 * 80)
    for shot in (0, -1, None, "1"):
        with pytest.raises(ConfigError, match="shot is the number of annotated examples of a class, 1 or more"):
            few_shot(few, shot=shot)


def test_fault_15_support_masks_that_are_empty_or_of_another_size(few):
    lists = few_shot(few)
    number = lists.episode(0).supports[0]
    support = few / f"masks/{number}.png"
    kept = support.read_bytes()
    cv2.imwrite(str(support), np.zeros((60, 80), np.uint8))  # after the lists were made
    with pytest.raises(BadSampleError, match=rf"{number}\.jpg: no pixel of the mask has the class 1 \(\"ant"):
        lists[0]
    cv2.imwrite(str(support), np.ones((60, 90), np.uint8))
    with pytest.raises(BadSampleError, match=rf"{number}\.png: the mask is 90x60 but its image .* is 80x60"):
        lists[0]
    support.write_bytes(kept)
    with pytest.raises(BadSampleError, match=r"4\.png: the mask is 90x60"):
        lists.load(Episode(0, 1, (4,)))
    with pytest.raises(BadSampleError, match=r'2\.jpg: no pixel of the mask has the class 1 \("ant"\)'):
        lists.load(Episode(2, 1, (0,)))  # a query without the class
    cut = [*FEW_LOAD, dict(type="ForegroundCrop", crop_size=20, min_share=0, tries=0), LOAD[2]]
    masks = [
        sample["data_samples"].support[0].gt_sem_seg.data for sample in few_shot(few, num_episodes=40, pipeline=cut)
    ]
    expect(not all(mask.any() for mask in masks), "a crop may lose the class, as published; the mask is empty then")


# 16: nothing to train on


def test_fault_16_empty_sets(root, tmp_path):
    (root / "ImageSets/Segmentation/train.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"train\.txt: split list \(ann_file\) is empty: 0 samples"):
        voc(root)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none: a folder for each class is expected; it holds no files"):
        ImageFolderDataset(data_root=str(tmp_path / "none"))
    (tmp_path / "list.csv").write_text("file,class_index\n")
    with pytest.raises(DataError, match=r"list\.csv: list file \(ann_file\) is empty: 0 samples"):
        ListFileDataset(data_root=str(tmp_path), ann_file="list.csv")
    with pytest.raises(DataError, match="indices=0 leave none of the 2 samples"):
        voc(root, "val", indices=0)


def test_fault_16_no_ground_truth_is_known_before_training(root):
    prefix = dict(img_path="JPEGImages")
    sample = voc(root, "val", data_prefix=prefix, test_mode=True, pipeline=LOAD[::2])[0]["data_samples"]
    with pytest.raises(DataError, match=r"sample_000004\.jpg: IoUMetric needs gt_sem_seg .*LoadAnnotations"):
        IoUMetric().check_sample(sample)
    with pytest.raises(DataError, match=r"sample_000004\.jpg: Accuracy needs gt_label .*ImageFolderDataset"):
        Accuracy().check_sample(sample)
    IoUMetric(format_only=True, output_dir="out").check_sample(sample)
    IoUMetric().check_sample(voc(root, "val")[0]["data_samples"])


# 21: where data lies


def test_fault_21_spaces_unicode_links_and_relative_paths(root, tmp_path, monkeypatch):
    expected = [voc(root)[i]["inputs"] for i in range(4)]
    odd = tmp_path / "my dätä (1) [x] 数据"
    root.rename(odd)
    (tmp_path / "link").symlink_to(odd, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for place in (odd, tmp_path / "link", odd.name, f"./link/../{odd.name}"):
        expect(all(torch.equal(voc(place)[i]["inputs"], expected[i]) for i in range(4)), place)


def test_fault_21_links_in_circles(root):
    images = root / "JPEGImages"
    for name in ("up", "again"):
        (images / name).symlink_to(root, target_is_directory=True)
    (images / "self").symlink_to(images, target_is_directory=True)
    expect(len(voc(root)) == 4)


def test_fault_21_a_read_only_folder(root):
    before = sorted(root.rglob("*"))
    folders = [root, *(path for path in before if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        expect(check_dataset(voc(root)).ok)
        expect(len(list(voc(root))) == 4)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    expect(sorted(root.rglob("*")) == before, "nothing is written beside the data")


def test_fault_21_windows_separators(root, tmp_path):
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (root / folder / "town").mkdir()
        (root / folder / f"sample_000000.{suffix}").rename(root / folder / f"town/a.{suffix}")
    (root / "ImageSets/Segmentation/train.txt").write_bytes(b"town\\a\r\ntown\\a.jpg\r\n")
    expect(voc(root).stems == ["town/a", "town/a"])
    (tmp_path / "list.csv").write_bytes(b"file,class_index\r\nJPEGImages\\town\\a.jpg,1\r\n")
    data = ListFileDataset(data_root=str(tmp_path), ann_file="list.csv", data_prefix=dict(img_path=str(root)))
    expect(data.get_data_info(0)["img_path"] == f"{root}/JPEGImages/town/a.jpg")


# 22: metrics of nothing


def iou(**kwargs):
    metric = IoUMetric(**kwargs)
    metric.dataset_meta = dict(classes=("a", "b", "never"))
    return metric


def segmented(prediction, label):
    maps = {"pred_sem_seg": prediction, "gt_sem_seg": label}
    return {key: dict(data=torch.tensor([value])) for key, value in maps.items()}


def test_fault_22_no_result_at_all():
    metric = iou(iou_metrics=["mIoU", "mDice", "mFscore"])
    values = metric.evaluate(0)
    expect(len(values) == 7 and all(math.isnan(v) for v in values.values()), values)
    expect(iou(nan_to_num=0).evaluate(0)["mIoU"] == 0)
    values = Accuracy().evaluate(0)
    expect(list(values) == ["accuracy/top1", "accuracy/top5"] and all(map(math.isnan, values.values())), values)


def test_fault_22_absent_classes_and_ignored_pixels():
    metric = iou()
    metric.process({}, [segmented([[0, 1]], [[0, 0]])])
    expect(metric.evaluate(1) == {"aAcc": 50.0, "mIoU": 25.0, "mAcc": 50.0})  # "never" is left out, "b" counts as 0
    metric.process({}, [segmented([[0, 1]], [[255, 255]])])
    expect(all(math.isnan(v) for v in metric.evaluate(1).values()), "only ignored pixels")


def test_fault_22_nan_scores_are_wrong_and_nothing_else():
    metric = Accuracy(topk=1)
    scores = [torch.tensor([float("nan")] * 2), torch.tensor([0.1, 0.9])]
    metric.process({}, [dict(pred_score=score, gt_label=torch.tensor([1])) for score in scores])
    expect(metric.evaluate(2) == {"accuracy/top1": 50.0})


@pytest.mark.parametrize("metric", [iou, Accuracy])
def test_fault_22_evaluating_twice_and_one_result_per_sample(metric):
    made, values = metric(), []
    sample = dict(segmented([[0, 1]], [[0, 0]]), pred_score=torch.tensor([0.2, 0.8]), gt_label=torch.tensor([1]))
    for _ in range(2):
        made.process({}, [sample] * 3)
        made.process({}, [sample])
        expect(len(made.results) == 4, "a result for each sample, so that those repeated by a sampler can be cut off")
        values.append(made.evaluate(3))
    expect(values[0] == values[1] and not math.isnan(next(iter(values[0].values()))))


# 23: pairs of patches, and parts to come


def matcher(inputs, samples=None, mode="tensor"):
    """What a matcher of patches says to these pairs."""
    head = dict(type="DescriptorHead", in_channels=(1,))
    model = PatchMatcher(head, data_preprocessor=BaseDataPreprocessor())
    with pytest.raises(DataError) as error:
        model(inputs, samples, mode)
    text = str(error.value)
    expect("\n" not in text, text)
    return text


def test_fault_23_pairs_of_unequal_size_and_a_missing_partner():
    patches = torch.zeros(2, 1, 64, 64)
    text = matcher(dict(visible=patches, thermal=patches[..., :48]))
    expect("(2, 1, 64, 64)" in text and "(2, 1, 64, 48)" in text, text)
    text = matcher(dict(visible=patches, thermal=patches[:1]))
    expect("(1, 1, 64, 64)" in text, text)
    text = matcher(dict(visible=patches))
    expect(text == "a pair without thermal; inputs holds ['visible']", text)


@pytest.mark.parametrize("label, words", [(2, "label 2"), (-1, "label -1"), (None, "gt_label")])
def test_fault_23_labels_of_pairs(label, words):
    samples = [DataSample(metainfo=dict(img_path=name)) for name in ("a.png", "b.png")]
    samples[0].gt_label = torch.tensor([1])
    if label is not None:
        samples[1].gt_label = torch.tensor([label])
    patches = torch.rand(2, 1, 64, 64)
    text = matcher(dict(visible=patches, thermal=patches), samples, "loss")
    expect(text.startswith("b.png: ") and words in text, text)


@pytest.mark.parametrize("label", [0, 1])
def test_fault_23_a_test_set_of_one_label(label):
    metric = FPR95()
    pair = dict(pred_score=torch.tensor([0.5]), gt_label=torch.tensor([label]), scene="street", set="R")
    metric.process({}, [pair] * 3)
    with pytest.raises(DataError) as error:
        metric.evaluate(3)
    text = str(error.value)
    expect("set R, scene street" in text and "needs both" in text and "\n" not in text, text)


def tokenizer(**kwargs):
    small = dict(channels=8, channel_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), num_groups=4, codebook_size=16)
    return ImageTokenizer(**small | kwargs).eval()


def test_fault_23_pictures_whose_sides_the_stride_does_not_divide():
    net, picture = tokenizer(), torch.rand(1, 3, 9, 13)
    codes = net.encode(picture)
    expect(codes.shape == (1, 5, 7, 1), str(codes.shape))
    expect(net.decode(codes, (9, 13)).shape == (1, 3, 9, 13), "cropped to the picture")
    with pytest.raises(DataError) as error:
        net.decode(codes, (9, 11))
    text = str(error.value)
    expect("(9, 11)" in text and "(10, 14)" in text and "\n" not in text, text)


def test_fault_23_codes_outside_of_the_codebook():
    codes = torch.zeros(1, 2, 3, 1, dtype=torch.int64)
    for wrong in (16, -1):
        codes[0, 1, 2, 0] = wrong
        with pytest.raises(DataError) as error:
            tokenizer().decode(codes)
        text = str(error.value)
        expect(f"code {wrong} " in text and "(0, 1, 2, 0)" in text and "0 to 15" in text and "\n" not in text, text)


def test_fault_23_a_checkpoint_with_another_codebook():
    with pytest.raises(WeightsError) as error:
        load_state(tokenizer(), tokenizer(codebook_size=32).state_dict(), "wide.pth", complete=True)
    text = str(error.value)
    expect("wide.pth" in text and "quantizer.embedding.weight (32, 4) for (16, 4)" in text, text)


def generator():
    shape = dict(codebook_size=16, map_size=(4, 4), channels=8, depth=1, num_heads=2, mlp_channels=8, num_classes=3)
    return MaskedTokenGenerator(tokenizer(), dict(type="MaskedTokenTransformer", **shape)).eval()


def generator_refuses(run, *parts):
    """`run` fails in one line that holds every part."""
    with pytest.raises(DataError) as error:
        run()
    text = str(error.value)
    expect(all(part in text for part in parts) and "\n" not in text, text)


@pytest.mark.parametrize("wrong", [17, -1])
def test_fault_23_a_transformer_given_codes_outside_of_the_codebook(wrong):
    codes = torch.full((1, 4, 4, 1), 16)  # hidden: no fault
    codes[0, 2, 3, 0] = wrong
    generator_refuses(lambda: generator().transformer(codes), f"code {wrong} ", "(0, 2, 3, 0)", "0 to 15")


@pytest.mark.parametrize("size", [(8, 10), (6, 8), (16, 16)])
def test_fault_23_pictures_whose_codes_are_no_map_of_the_transformer(size):
    net, picture = generator(), torch.zeros(1, 3, *size)
    sample, mask = DataSample(gt_label=torch.tensor([0])), torch.ones(1, *size, dtype=torch.bool)
    found = f"({size[0] // 2}, {size[1] // 2})"
    for run in (lambda: net(picture, [sample], mode="loss"), lambda: net(picture), lambda: net.inpaint(picture, mask)):
        generator_refuses(run, found, "map_size = (4, 4)", "(B, 3, 8, 8)")


@pytest.mark.parametrize("mode", ["loss", "predict"])
def test_fault_23_a_generator_of_classes_given_none_or_a_wrong_one(mode):
    net, pictures = generator(), torch.zeros(2, 3, 8, 8)
    samples = [DataSample(metainfo=dict(img_path=f"{name}.png"), gt_label=torch.tensor([0])) for name in "ab"]
    for label in (3, -1):
        samples[1].gt_label = torch.tensor([label])
        generator_refuses(lambda: net(pictures, samples, mode=mode), "b.png: ", f"label {label}", "labels 0 to 2")
    del samples[1].gt_label
    generator_refuses(lambda: net(pictures, samples, mode=mode), "b.png: ", "gt_label")
    for labels in ([0, 3], [0, -1]):
        generator_refuses(lambda: net.generate(2, labels), str(labels), "0 to 2")  # noqa: B023
