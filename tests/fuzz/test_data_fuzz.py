"""Malformed annotations, pictures, masks and lists: the readers raise errors of their own, or give a valid result."""

import copy
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionpatch.datasets import FolderDataset, LabelMeDataset, ListFileDataset, read_labelme
from visionpatch.datasets.coco_json import read_coco
from visionpatch.datasets.objects import ImageObjects
from visionpatch.datasets.packed import PackedImages
from visionpatch.datasets.segments import mask_of
from visionpatch.datasets.transforms import LoadAnnotations
from visionpatch.datasets.transforms.decode import decode_image, decode_labels
from visionpatch.datasets.voc_xml import read_voc
from visionpatch.errors import DataError, VisionpatchError

from .budget import share

MAX_PIXELS = 2**20  # keeps what a changed header may ask for small
ODD = st.sampled_from(
    [
        None, True, False, 0, 1, 2, -1, 1.5, 40, 50, 1e-320, -1e308, 1e308, 10**40, 2**31, 2**63, float("nan"),
        float("inf"), "", "x", "1", "cat", "\0", "\ud800", "a\nb", "x" * 5000, [], {}, [[]], [None], [1, 2, 3, 4],
        [-5, -5, 5, 5], [49.99, 1, 5, 5], [[0, 0, 5, 0, 5, 5]], [[0, 0, 5, 0, 5]], [[0, 0, 1e7, 0, 5, 5]],
        {"size": [40, 50], "counts": [2000]}, {"size": [40, 50], "counts": [0, 1e9]},
        {"size": [40, 50], "counts": "o0"}, {"size": [50, 40], "counts": [0, 2000]},
    ]
)  # fmt: skip
COCO = dict(
    info=dict(year=2024),
    images=[dict(id=i, file_name=f"{i}.jpg", height=40, width=50) for i in range(3)],
    categories=[dict(id=1, name="cat", supercategory="animal"), dict(id=2, name="dog")],
    annotations=[
        dict(id=1, image_id=0, category_id=1, bbox=[1, 2, 9, 8], area=40.5, iscrowd=0,
             segmentation=[[1, 2, 10, 2, 10, 10.5]]),
        dict(id=2, image_id=0, category_id=2, bbox=[0, 0, 50, 40], area=2000, iscrowd=1,
             segmentation=dict(size=[40, 50], counts=[0, 2000])),
        dict(id=3, image_id=1, category_id=2, bbox=[45.5, 30, 10, 20], area=8, iscrowd=0,
             segmentation=dict(size=[40, 50], counts="o0a]1")),
    ],
)  # fmt: skip
LABELME = dict(
    version="5.4.1", imagePath="../images/a.jpg", imageHeight=40, imageWidth=50, imageData=None,
    shapes=[
        dict(label="cat", points=[[1, 2], [10, 2], [10, 10.5]], shape_type="polygon", group_id=None, flags={}),
        dict(label="dog", points=[[8, 9], [60, 30]], shape_type="rectangle", group_id=1),
        dict(label="dog", points=[[20, 20], [22, 25]], shape_type="circle", group_id=1),
        dict(label="tail", points=[[20, 20], [22, 25]], shape_type="line", group_id=None),
    ],
)  # fmt: skip
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>VOC</folder><filename>a.jpg</filename>
<size><width>50</width><height>40</height><depth>3</depth></size><segmented>1</segmented>
<object><name>cat</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>50</xmax><ymax>40</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></part></object>
<object><name>dog</name><bndbox><xmin>8.5</xmin><ymin>9</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
</annotation>
"""
WORDS = [
    "cat", "width", "xmin", "bndbox", "<name>", "</object>", "50", ">", "<", "utf-8", "annotation>", "<size>",
    "<!DOCTYPE a>", '<!ENTITY e "ee">', "&e;", "&lt;", "<![CDATA[x]]>", "-1", "nan", "1e999", "9" * 400, "\0", "\x85",
    "é", " ", "utf-16", "latin-1", "nonsense",
]  # fmt: skip
PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8), (5, 5), 0)
LABELS = np.random.default_rng(0).integers(0, 3, (24, 33), dtype=np.uint8)


def encoded(image, suffix, *parameters):
    return cv2.imencode(suffix, image, list(parameters))[1].tobytes()


IMAGES = [
    *(encoded(PICTURE, suffix) for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm", ".jp2")),
    encoded(PICTURE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    encoded(PICTURE, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    *(encoded(PICTURE, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, kind) for kind in (1, 8, 32773)),
    encoded(PICTURE.astype(np.uint16) * 200, ".png"),
    encoded(PICTURE.astype(np.uint16) * 200, ".tif"),
    encoded(np.dstack([PICTURE, PICTURE[..., 0]]), ".png"),
]
MASKS = [encoded(LABELS, suffix) for suffix in (".png", ".bmp", ".tif", ".pgm")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures and masks, and a place for the files under test."""
    root = tmp_path_factory.mktemp("fuzz")
    for name in ("images", "masks", "labelme"):
        (root / name).mkdir()
    for stem in "abc":
        (root / f"images/{stem}.jpg").write_bytes(IMAGES[1])
        (root / f"masks/{stem}.png").write_bytes(MASKS[0])
    return root


@st.composite
def changed_bytes(draw, files):
    """One of `files` with up to four changes: bytes set, cut out, doubled, put in, zeroed, or cut off."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        head = draw(st.booleans())  # headers are short and decide most
        at = draw(st.integers(0, max(min(len(data), 96) if head else len(data), 1) - 1))
        length = draw(st.integers(1, 24))
        match draw(st.integers(0, 5)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case 4:
                data[at : at + length] = bytes([draw(st.sampled_from([0, 255]))]) * length
            case 5:
                del data[at:]
    return bytes(data)


@st.composite
def changed_document(draw, original):
    """A document with up to four values replaced, taken away or doubled."""
    document = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 4))):
        places = list(walk(document))
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 3)):
            case 0 | 1:
                container[key] = copy.deepcopy(draw(ODD))
            case 2:
                del container[key]
            case 3 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
    return document


def walk(node):
    """Every (container, key or index) below `node`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from walk(value)


@st.composite
def changed_text(draw, text, words):
    """`text` with up to four pieces replaced by one of `words` or cut out."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", *words])) + text[at + draw(st.integers(0, 12)) :]
    return text


def check_objects(image: ImageObjects, number: int) -> None:
    count = len(image.labels)
    assert image.boxes.shape == (count, 4)
    assert image.boxes.dtype == np.float32
    assert np.isfinite(image.boxes).all()
    assert (image.boxes >= 0).all()
    assert (image.boxes <= [image.width, image.height] * 2).all()
    assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
    assert ((image.labels >= 0) & (image.labels < number)).all()
    assert count == len(image.crowd) == len(image.areas) == len(image.segmentations) == len(image.object_ids)


def reads_coco(path, **kwargs) -> None:
    try:
        data = read_coco(path, **kwargs)
    except VisionpatchError as error:
        assert str(error).startswith(str(path))
        assert len(str(error).splitlines()) == 1
        return
    for image, packed in zip(data.images, PackedImages(data.images)):
        check_objects(image, len(data.classes))
        assert (packed.segmentations, packed.object_ids) == (image.segmentations, image.object_ids)
        for segmentation in filter(None, image.segmentations):
            if image.height * image.width <= MAX_PIXELS:
                assert mask_of(segmentation, image.height, image.width).shape == (image.height, image.width)


@share(0.1)
@given(changed_document(COCO), st.booleans())
def test_coco_entries(folder, document, lenient):
    (folder / "coco.json").write_text(json.dumps(document))
    arguments = dict(duplicates="drop", need_objects=False, with_masks=True) if lenient else {}
    reads_coco(folder / "coco.json", **arguments)


@share(0.04)
@given(changed_document(LABELME))
def test_labelme_entries(folder, document):
    reads_labelme(folder / "labelme", json.dumps(document).encode())


@share(0.02)
@given(changed_bytes([json.dumps(LABELME).encode()]))
def test_labelme_bytes(folder, data):
    reads_labelme(folder / "labelme", data)


def reads_labelme(folder, data) -> None:
    (folder / "a.json").write_bytes(data)
    try:
        annotations = read_labelme(str(folder))
        check_objects(annotations.images[0], len(annotations.classes))
        load = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_mask=True)]
        sample = LabelMeDataset(data_root=str(folder), pipeline=load)[0]
    except VisionpatchError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert sample["gt_masks"].shape == (len(sample["gt_bboxes"]), 40, 50)


@share(0.04)
@given(changed_bytes([json.dumps(COCO).encode()]))
def test_coco_bytes(folder, data):
    (folder / "coco.json").write_bytes(data)
    reads_coco(folder / "coco.json")


@share(0.03)
@given(ODD | st.dictionaries(st.sampled_from(["size", "counts"]), ODD | st.text(max_size=12) | st.lists(st.integers())))
def test_segmentations(segmentation):
    try:
        mask = mask_of(segmentation, 40, 50)
    except DataError:
        return
    assert (mask.shape, mask.dtype) == ((40, 50), bool)


@share(0.07)
@given(changed_text(XML, WORDS), st.sampled_from(["utf-8", "utf-16", "latin-1"]), st.booleans())
def test_voc_text(folder, text, encoding, drop):
    (folder / "a.xml").write_bytes(text.encode(encoding, "replace"))
    reads_voc(folder / "a.xml", "drop" if drop else "error")


@share(0.04)
@given(changed_bytes([XML.encode()]))
def test_voc_bytes(folder, data):
    (folder / "a.xml").write_bytes(data)
    reads_voc(folder / "a.xml", "drop")


def reads_voc(path, unknown) -> None:
    try:
        data = read_voc([path], ("cat", "dog"), unknown=unknown)
    except VisionpatchError as error:
        assert len(str(error).splitlines()) == 1
        return
    check_objects(data.images[0], 2)


@share(0.1)
@given(changed_bytes(IMAGES), st.sampled_from(["error", "drop"]), st.booleans())
def test_images(data, alpha, ignore_orientation):
    try:
        image = decode_image(data, "a.png", alpha, ignore_orientation, MAX_PIXELS)
    except VisionpatchError as error:
        assert str(error).startswith("a.png: ")
        assert "\n" not in str(error)
        return
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype in (np.uint8, np.uint16)
    assert 0 < image.size <= 3 * MAX_PIXELS


@share(0.05)
@given(changed_bytes(MASKS), st.booleans())
def test_masks(folder, data, reduce_zero_label):
    (folder / "m.png").write_bytes(data)
    step = LoadAnnotations(reduce_zero_label, max_pixels=MAX_PIXELS)
    results = dict(seg_path=str(folder / "m.png"), ori_shape=LABELS.shape, classes=("a", "b", "c"), img_path="a.jpg")
    try:
        labels = step(results)["gt_seg_map"]
    except VisionpatchError:
        return
    assert (labels.shape, labels.dtype) == (LABELS.shape, np.uint8)
    assert set(np.unique(labels)) <= {0, 1, 2, 255}
    assert decode_labels(data, "m.png").shape == LABELS.shape


@share(0.03)
@given(changed_text("a\nb\r\nc.jpg\n", ["d", "\\", "../a", "\0", "\ufeff", " ", "/", "é", "a" * 300, "\u2028"]))
def test_split_lists(folder, text):
    (folder / "split.txt").write_text(text, encoding="utf-8", newline="")
    prefix = dict(img_path="images", seg_map_path="masks")
    arguments = dict(data_root=str(folder), data_prefix=prefix, metainfo=dict(classes=("a", "b", "c")))
    try:
        data = FolderDataset(**arguments, ann_file="split.txt")
    except VisionpatchError:
        return
    assert set(data.stems) <= {"a", "b", "c"}


@share(0.02)
@given(
    changed_text(
        "file,class_index,name\na.jpg,0,ant\nb.jpg,1,bee\n",
        ["file", ",", '"', "\n", "-1", "9" * 5000, "٣", "²", "\0", "1.0", "c.jpg"],
    )
)
def test_list_files(folder, text):
    (folder / "list.csv").write_text(text, encoding="utf-8", newline="")
    try:
        data = ListFileDataset(data_root=str(folder), data_prefix=dict(img_path="images"), ann_file="list.csv")
    except VisionpatchError:
        return
    assert all(0 <= label < len(data.metainfo["classes"]) for _, label in data.samples)


@share(0.01)
@given(ODD | st.dictionaries(st.sampled_from(["classes", "palette"]), ODD | st.lists(ODD, max_size=3)))
def test_classes(folder, metainfo):
    prefix = dict(img_path="images", seg_map_path="masks")
    try:
        data = FolderDataset(data_root=str(folder), data_prefix=prefix, metainfo=metainfo)
    except VisionpatchError:
        return
    assert len(data.metainfo["classes"]) == len(data.metainfo["palette"])
