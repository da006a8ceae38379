"""The PASCAL VOC annotation reader: numbers by hand, every real file, and what it refuses."""

import re

import numpy as np
import pytest

from visionpatch.datasets import objects as why
from visionpatch.datasets.voc import CLASSES
from visionpatch.datasets.voc_xml import read_voc, read_voc_objects
from visionpatch.errors import BadSampleError, ConfigError, DataError

NAMES = ("cat", "dog")
PAGE = "<annotation><filename>{name}.jpg</filename><size><width>20</width><height>10</height></size>{}</annotation>"
PART = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"


def thing(name="cat", box=(1, 1, 20, 10), extra=""):
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{extra}{PART}<bndbox>{sides}</bndbox></object>"


@pytest.fixture
def page(tmp_path):
    """A function that writes an annotation of these objects and returns its path."""

    def write(*objects, name="a", text=None):
        path = tmp_path / f"{name}.xml"
        path.write_text(PAGE.format("".join(objects), name=name) if text is None else text)
        return path

    return write


def test_numbers(page):
    path = page(
        thing(),
        thing("dog", (3, 4, 3, 4), "<difficult>1</difficult><truncated>0</truncated>"),
        thing("dog", ("2.5", 1, 7, 3), "<truncated>1</truncated>"),
    )
    found = read_voc_objects(path, NAMES)
    assert (found.id, found.file_name, found.height, found.width) == ("a", "a.jpg", 10, 20)
    assert found.boxes.tolist() == [[0, 0, 20, 10], [2, 3, 3, 4], [1.5, 0, 7, 3]]
    assert found.areas.tolist() == [200, 1, 16.5]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.difficult.tolist() == [False, True, False]
    assert found.truncated.tolist() == [False, False, True]


def test_what_is_left_out_is_counted(page):
    first = page(thing(box=(0, 0, 25, 10)), thing(box=(8, 2, 6, 3)), thing(box=(22, 1, 25, 3)), thing("cow"))
    data = read_voc([first, page(name="b")], NAMES, unknown="drop")
    assert [image.boxes.tolist() for image in data.images] == [[[0, 0, 20, 10]], []]
    assert (data.report.images, data.report.objects) == (2, 4)
    assert data.report.left_out == {why.NO_AREA: 1, why.OUTSIDE: 1, why.OTHER_CLASS: 1}
    assert data.report.noted == {why.CLIPPED: 1, why.EMPTY: 1}


def test_nothing_usable(page):
    files = [page(thing(box=(9, 1, 5, 3))), page(thing(extra="<difficult>1</difficult>"), name="b")]
    with pytest.raises(DataError, match="left out: 1 zero or negative area; counted: .*1 difficult.*no usable object"):
        read_voc(files, NAMES)
    assert len(read_voc(files, NAMES, need_objects=False).images) == 2
    with pytest.raises(DataError, match="0 samples"):
        read_voc([], NAMES)
    with pytest.raises(DataError, match="a is listed more than once"):
        read_voc([files[0], files[0]], NAMES)


@pytest.mark.parametrize(
    "objects, message",
    [
        (thing("cot"), 'object 0 is a "cot", not one of the 2 classes; did you mean "cat"'),
        (thing().replace("bndbox", "box"), r"object 0 \(cat\) has no <bndbox>"),
        (thing().replace("xmax>", "xmx>"), "has no <xmax>, only xmin, ymin, xmx, ymax"),
        (thing(box=(1, "nan", 2, 3)), "<ymin> is a number, not 'nan'"),
        (thing(box=(1, "1e999", 2, 3)), "<ymin> is a number"),
        (thing(box=(1, "", 2, 3)), "<ymin> is a number, not ''"),
        (thing(""), "object 0 has no <name>"),
        (thing(extra="<difficult>maybe</difficult>"), "<difficult> is 0 or 1, not 'maybe'"),
    ],
)
def test_faults_of_an_object(page, objects, message):
    with pytest.raises(BadSampleError, match=message):
        read_voc_objects(page(objects), NAMES)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        ("<annotation><size>", "no valid XML .*line 1"),
        ("<a/>", "<annotation>, not <a>"),
        ("<annotation/>", "no <size>"),
        ("<annotation><size><width>5</width></size></annotation>", "<size> has no <height>, only width"),
        ("<annotation><size><width>0</width><height>5</height></size></annotation>", "<width> is a whole number"),
        ("<annotation>&boom;</annotation>", "undefined entity"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "no valid XML"),
    ],
)
def test_faults_of_a_file(page, text, message):
    with pytest.raises(BadSampleError, match=rf"a\.xml: .*{message}"):
        read_voc_objects(page(text=text), NAMES)


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(10))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "declared",
    [f"<!DOCTYPE a [{LAUGHS}]>", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "<!DOCTYPE annotation>"],
)
def test_a_document_type_is_refused(tmp_path, declared, encoding):
    (tmp_path / "a.xml").write_bytes(f"{declared}<annotation>&l9;</annotation>".encode(encoding))
    with pytest.raises(BadSampleError, match="document type"):
        read_voc_objects(tmp_path / "a.xml", NAMES)


def test_depth_and_length(page):
    with pytest.raises(BadSampleError, match="<annotation>, not <a>"):
        read_voc_objects(page(text="<a>" * 100_000 + "</a>" * 100_000), NAMES)
    with pytest.raises(BadSampleError, match="bytes are too many"):
        read_voc_objects(page(text="<annotation>" + " " * 2**24), NAMES)


def test_arguments(page):
    with pytest.raises(ConfigError, match='unknown=.*did you mean "drop"'):
        read_voc_objects(page(), NAMES, unknown="drops")
    with pytest.raises(ConfigError, match="tuple of different names"):
        read_voc_objects(page(), "cat")


def test_every_real_file(real_data):
    files = sorted((real_data / "VOCdevkit/VOC2012/Annotations").glob("*.xml"))
    data = read_voc(files, CLASSES[1:])
    assert (len(data.images), data.report.objects, data.report.noted) == (632, 1822, {why.DIFFICULT: 340})
    assert not data.report.left_out
    for path, image in zip(files, data.images):
        plain = re.sub("<part>.*?</part>", "", path.read_text(), flags=re.S)
        names = re.findall(r"<name>(\w+)</name>", plain)
        sides = [re.findall(rf"<{side}>([\d.]+)</{side}>", plain) for side in ("xmin", "ymin", "xmax", "ymax")]
        assert [data.classes[label] for label in image.labels] == names
        assert np.array_equal(image.boxes, np.array(sides, np.float32).T - [1, 1, 0, 0])
