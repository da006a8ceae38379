"""The adapters of SCCAN's data and metric, on made-up cases whose numbers are worked out by hand."""

import json
from pathlib import Path
from typing import Any

import check_golden
import numpy as np
import pytest
from golden import few_shot

GOLDEN = Path(__file__).resolve().parents[1] / "golden/sccan"
SOURCE = "github.com/Sam1224/SCCAN, test_sccan.py, validate() with util/util.py intersectionAndUnionGPU"
PREDICTIONS = [[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 0, 0, 1]]]
LABELS = [[[1, 0, 1, 255]], [[1, 1, 0, 0]], [[0, 0, 1, 1]]]
# classes 1, 1, 2: I1 U1 = 1 3, 2 2, 1 2; I0 U0 = 0 2, 2 2, 2 3
IOUS = [3 / 5, 1 / 2, 0, 0, 0]
NUMBERS = dict(mIoU=1.1 / 5, pIoU=4 / 7, FBIoU=(4 / 7 + 4 / 7) / 2)


def errors(folder: Path, arrays: dict[str, Any], case: dict[str, Any]) -> dict[str, float]:
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    given = dict(source=SOURCE, model=dict(data_set="pascal", split=0), state={}, inputs={}, notes="") | case
    given.setdefault("outputs", {name: "INPUT" if name in few_shot_inputs else "" for name in arrays})
    (folder / "case.json").write_text(json.dumps(given))
    np.savez(folder / "output.npz", **arrays)
    return check_golden.check_case(folder)


few_shot_inputs = {"pred", "label", "class", "logits", "subcls"}


def test_metric_of_arrays(tmp_path: Path) -> None:
    stored = dict(pred=PREDICTIONS, label=LABELS, **{"class": [1, 1, 2]}, class_iou=IOUS, **NUMBERS)
    found = errors(tmp_path, stored, {})
    assert set(found) == {"class_iou", *NUMBERS} and max(found.values()) < 1e-6
    assert errors(tmp_path, stored | dict(pIoU=0.5), {})["pIoU"] > 0.1


def test_metric_of_a_list_with_expected_values(tmp_path: Path) -> None:
    """Class places instead of classes, a painted label, and logits that are resized to the label's longer side."""
    logits = np.zeros((2, 2, 2))
    logits[1] = [[1, -1], [1, -1]]  # at four columns: 1, 1/3, -1/3, -1
    label = dict(size=[3, 4], rects=[[1, 0, 0, 3, 1]], ignore=[[2, 0, 3, 1]])
    inputs = dict(episodes=[dict(subcls=[1], logits=logits.tolist(), target=label)])
    iou = 2 / 5  # of the 11 pixels that count, 5 are found and 2 are there
    expected = dict(mIoU=iou / 5, **{"FB-IoU": (iou + 6 / 9) / 2})
    found = errors(tmp_path, {}, dict(inputs=inputs, expected=expected, outputs={"in expected": "the numbers"}))
    assert found["expected"] < 1e-6
    expected["FB-IoU"] += 0.01
    assert errors(tmp_path, {}, dict(inputs=inputs, expected=expected))["expected"] > 1e-3


def test_an_unknown_layout_is_said(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no episodes found in the inputs"):
        errors(tmp_path, dict(mIoU=[0.5]), dict(inputs=dict(somewhere=[1])))


@pytest.mark.parametrize(
    "change, worse",
    [
        ({}, False),
        (dict(shot=2), True),
        (dict(split=1), True),
        (dict(ann_type="bbox"), True),
        (dict(val_size=90), False),
    ],
)
def test_changed_arguments_change_the_episodes(tmp_path: Path, change: dict, worse: bool) -> None:
    case = json.loads((GOLDEN / "episodes_1shot/case.json").read_text())
    case["model"] |= change
    with np.load(GOLDEN / "episodes_1shot/output.npz") as file:
        found = errors(tmp_path, dict(file), case)
    assert (max(found.values()) > 0) == worse  # Resize(73) of the source counts more than val_size


@pytest.mark.parametrize("name, sizes", [("Resize", (96, 64)), ("test_Resize", (72, 48)), ("Direct_Resize", (97, 97))])
def test_the_published_transforms(name: str, sizes: tuple[int, int]) -> None:
    case = dict(source=f"util/transform.py, Compose([{name}(size)])", model=dict(val_size=97))
    image = np.zeros((72, 48, 3), np.uint8)
    made = few_shot.published_transform(case)(dict(img=image, img_shape=(72, 48)))
    assert made["img_shape"] == sizes and made["img"].shape == (97, 97, 3)


def test_coco_splits_five_shots_and_training_lists(tmp_path: Path) -> None:
    """Interleaved fold 1 has the classes 2, 6, ...; a training case asks for base classes."""
    table = [dict(name=f"p{i}", size=[60, 60], rects=[[6, 0, 0, 50, 50]], ignore=[]) for i in range(7)]
    table += [dict(name=f"q{i}", size=[60, 60], rects=[[7, 5, 5, 60, 60]], ignore=[]) for i in range(2)]
    table[0]["rects"].append([3, 55, 55, 60, 60])  # a base class, too small to count
    model = dict(data_set="coco", use_split_coco=True, split=1, shot=5, val_size=41)
    lists = {
        "val": dict(data_list=[f"p{i}" for i in range(7)], sub_class_file_list={"6": [f"p{i}" for i in range(7)]}),
        "train": dict(data_list=["q0", "q1"], sub_class_file_list={"7": ["q0", "q1"], "3": []}),
    }
    case = dict(source="make_dataset() and SemData", model=model, outputs={}, state={})
    case |= dict(inputs=dict(table=table, sampling="random.seed(5); 8 in all"))
    case["expected"] = dict(lists=lists, episodes=[dict(query="p0")] * 8)
    made = few_shot.run(case, {}, {}, check_golden.draw)
    assert check_golden.nested_error(made["expected"]["lists"], lists) == 0
    assert "2" in made["expected"]["lists"]["val"]["sub_class_file_list"]
    assert made["support_pixels"].shape == (8, 5, 3) and made["class"].tolist() == [6] * 8
    assert (made["label_pixels"].sum(1) == 41 * 41).all()
    case["model"] = model | dict(mode="train", shot=1)
    made = few_shot.run(case, {}, {}, check_golden.draw)
    assert made["class"].tolist() == [7] * 8 and [e["query"] for e in made["expected"]["episodes"]] == ["q0", "q1"] * 4


def test_nested_values_are_compared() -> None:
    reference = dict(a=[1, "x", 2.0], b=dict(c=0.5))
    assert check_golden.nested_error(dict(a=[1, "x", 2.0], b=dict(c=0.5), d=1), reference) == 0
    assert check_golden.nested_error(dict(a=[1, "x", 2.2], b=dict(c=0.5)), reference) == pytest.approx(0.1)
    for wrong in (dict(a=[1, "x"], b=dict(c=0.5)), dict(a=[1, "y", 2.0], b=dict(c=0.5)), dict(b=dict(c=0.5)), None):
        assert check_golden.nested_error(wrong, reference) == float("inf")
    assert check_golden.nested_error([float("nan")], [1.0]) == float("inf")
