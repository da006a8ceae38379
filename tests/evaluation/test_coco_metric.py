"""CocoMetric: its numbers are pycocotools' on the files it writes, from either backend; what goes wrong is said."""

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.scenes import CLASSES, SIZE, fields, scene
from visionpatch.errors import BadSampleError, ConfigError, DataError, MissingDependencyError
from visionpatch.evaluation import CocoMetric
from visionpatch.structures import DataSample

NUMBERS = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"]
NUMBERS += ["AR@1", "AR@10", "AR@100", "AR_s@100", "AR_m@100", "AR_l@100"]
BACKENDS = ("faster-coco-eval", "pycocotools")


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings of the metric."""
    texts: list[str] = []
    for module in ("common", "coco_metric"):
        monkeypatch.setattr(f"visionpatch.evaluation.{module}.warn", texts.append)
    return texts


def metric(meta: dict | None = None, **arguments: Any) -> CocoMetric:
    made = CocoMetric(**arguments)
    made.dataset_meta = dict(classes=CLASSES) | (meta or {})
    return made


def numbers(samples: list[dict], meta: dict | None = None, **arguments: Any) -> dict[str, float]:
    made = metric(meta, **arguments)
    for sample in samples:
        made.process({}, [sample])
    return {name.removeprefix("coco/"): value for name, value in made.evaluate(len(samples)).items()}


def by_hand(prefix: Path, kind: str, truth: Path | None = None, **params: Any) -> list[float]:
    """What a user of pycocotools gets from the files."""
    with contextlib.redirect_stdout(io.StringIO()):
        given = COCO(str(truth or f"{prefix}.gt.json"))
        run = COCOeval(given, given.loadRes(f"{prefix}.{kind}.json"), kind)
        for name, value in params.items():
            setattr(run.params, name, value)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


def same(ours: list[float], theirs: list[float], backend: str = "faster-coco-eval") -> bool:
    """Equal: of pycocotools to the last bit; the other rounds one quotient in its own way."""
    exact = backend == "pycocotools"
    return ours == theirs if exact else ours == pytest.approx(theirs, rel=0, abs=1e-15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_twelve_numbers_of_boxes_and_masks_are_those_of_pycocotools_by_hand(tmp_path: Path, backend: str) -> None:
    prefix = tmp_path / "out" / "r"
    samples = [scene(i) for i in range(24)]
    found = numbers(samples, metric=["bbox", "segm"], backend=backend, outfile_prefix=str(prefix))
    assert list(found) == [f"{kind}_{name}" for kind in ("bbox", "segm") for name in NUMBERS]
    for kind in ("bbox", "segm"):
        ours = [found[f"{kind}_{name}"] for name in NUMBERS]
        assert same(ours, by_hand(prefix, kind), backend)
        assert 0.2 < ours[0] < 0.9 and len(set(ours)) > 9 and -1 not in ours
    assert found["bbox_mAP"] != found["segm_mAP"]


@pytest.mark.parametrize("from_file", [False, True])
def test_each_class_is_that_of_pycocotools_by_hand(tmp_path: Path, from_file: bool) -> None:
    """The class's category alone, also where the ids of a file are in no order; crowds and empty pictures are there."""
    samples, prefix = [scene(i, 9) for i in range(16)], tmp_path / "r"
    path = coco_file(tmp_path / "truth.json", samples) if from_file else None
    arguments = dict(metric=("bbox", "segm"), backend="pycocotools", classwise=True, outfile_prefix=str(prefix))
    found = numbers(samples, ann_file=str(path) if path else None, **arguments)
    for kind in ("bbox", "segm"):
        for name, category in zip(CLASSES, (7, 3, 9) if from_file else (1, 2, 3)):
            expected = by_hand(prefix, kind, path, catIds=[category])[0]
            assert found[f"{kind}_{name}_precision"] == pytest.approx(expected, rel=0, abs=1e-15)
            assert 0.1 < expected < 0.95
        each = [found[f"{kind}_{name}_precision"] for name in CLASSES]
        assert len(set(each)) == 3 and np.mean(each) == pytest.approx(found[f"{kind}_mAP"])


@pytest.mark.parametrize("seed", range(3))
def test_the_backends_agree(seed: int) -> None:
    samples = [scene(i, seed) for i in range(8)]
    arguments = dict(metric=["bbox", "segm", "proposal"], classwise=True)
    first, second = (numbers(samples, backend=backend, **arguments) for backend in BACKENDS)
    assert list(first) == list(second) and len(first) == 2 * (12 + 3) + 6
    assert same(list(first.values()), list(second.values()))


def coco_file(path: Path, samples: list[dict], ids: tuple[int, ...] = (7, 3, 9), first: int = 1) -> Path:
    """The truth of `samples` as a COCO file: polygons for the objects, run lengths for the crowds."""
    annotations = []
    for sample in samples:
        for key in ("gt_instances", "ignored_instances"):
            for box, label in zip(sample[key]["bboxes"].tolist(), sample[key]["labels"].tolist()):
                x1, y1, x2, y2 = box
                entry = dict(id=first + len(annotations), image_id=sample["img_id"], category_id=ids[label])
                entry |= dict(bbox=[x1, y1, x2 - x1, y2 - y1], area=0.7 * (x2 - x1) * (y2 - y1))
                crowd = key == "ignored_instances"
                runs = dict(size=list(SIZE), counts=[3000, 5000, SIZE[0] * SIZE[1] - 8000])
                entry |= dict(iscrowd=int(crowd), segmentation=runs if crowd else [[x1, y1, x2, y1, x2, y2, x1, y2]])
                annotations.append(entry)
    images = [dict(id=s["img_id"], file_name=s["img_path"], height=SIZE[0], width=SIZE[1]) for s in samples]
    categories = [dict(id=key, name=name) for key, name in zip(ids, CLASSES)] + [dict(id=1, name="fly")]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_truth_from_a_file(tmp_path: Path, backend: str) -> None:
    """Category ids in no order, areas of the file; the samples' own truth is not looked at."""
    samples = [scene(i, 5) for i in range(10)]
    path = coco_file(tmp_path / "truth.json", samples)
    for sample in samples:
        del sample["gt_instances"], sample["ignored_instances"]
    prefix = tmp_path / "r"
    found = numbers(samples, ann_file=str(path), metric=("bbox", "segm"), backend=backend, outfile_prefix=str(prefix))
    for kind in ("bbox", "segm"):
        assert same([found[f"{kind}_{name}"] for name in NUMBERS], by_hand(prefix, kind, path), backend)
    assert not (tmp_path / "r.gt.json").exists()
    assert {record["category_id"] for record in json.loads((tmp_path / "r.bbox.json").read_text())} == {7, 3, 9}


def test_only_tested_pictures_count_and_ids_from_0_are_not_missed(tmp_path: Path, warned: list[str]) -> None:
    samples = [scene(i, 5) for i in range(6)]
    path, other = coco_file(tmp_path / "a.json", samples, first=0), coco_file(tmp_path / "b.json", samples[:4])
    prefix = tmp_path / "r"
    found = numbers(samples[:4], ann_file=str(path), outfile_prefix=str(prefix))
    ours = [found[f"bbox_{name}"] for name in NUMBERS]
    assert same(ours, by_hand(prefix, "bbox", other))
    ids = [sample["img_id"] for sample in samples[:4]]
    assert ours[0] > by_hand(prefix, "bbox", path, imgIds=ids)[0] + 1e-4  # which misses object 0
    assert "only the 4 pictures that were tested of 6" in warned[-1] and "has an object of id 0" in warned[0]


def test_hand_computed() -> None:
    """One of two cats found, one detection wrong: precision 1/2 up to recall 1/2, so AP = 0.5 * 51 / 101."""
    truth = fields(np.array([[10, 10, 60, 60], [100, 10, 150, 60]]), np.array([0, 0]))
    found = fields(np.array([[70, 70, 90, 90], [10, 10, 60, 60]]), np.array([0, 0]), np.array([0.9, 0.8]))
    sample = dict(img_id="a", ori_shape=SIZE, gt_instances=truth, pred_instances=found)
    got = numbers([sample], classwise=True)
    assert got["bbox_mAP"] == got["bbox_mAP_50"] == pytest.approx(0.5 * 51 / 101)
    assert got["bbox_mAP_m"] == pytest.approx(51 / 101)  # the wrong one is small
    assert got["bbox_mAP_s"] == got["bbox_mAP_l"] == -1 and got["bbox_AR@1"] == 0 and got["bbox_AR@10"] == 0.5
    assert got["bbox_cat_precision"] == got["bbox_mAP"] and got["bbox_dog_precision"] == -1


def test_proposals_match_whatever_their_class(tmp_path: Path) -> None:
    samples = [scene(i) for i in range(6)]
    for sample in samples:
        sample["pred_instances"]["labels"][:] = 0
    prefix = tmp_path / "r"
    found = numbers(samples, metric="proposal", outfile_prefix=str(prefix), proposal_nums=(2, 5, 100))
    expected = by_hand(prefix, "bbox", useCats=0, maxDets=[2, 5, 100])[6:]
    assert list(found) == ["AR@2", "AR@5", "AR@100", "AR_s@100", "AR_m@100", "AR_l@100"]
    assert list(found.values()) == expected and 0.1 < expected[0] < expected[2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_predicted_and_nothing_to_find(backend: str) -> None:
    nothing = fields(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    samples = [scene(i) | dict(pred_instances=nothing) for i in range(4)]
    arguments = dict(metric=["bbox", "segm", "proposal"], backend=backend)
    found = numbers(samples, **arguments)
    assert set(found.values()) == {0.0}
    no_truth = {key: value for key, value in nothing.items() if key != "scores"}
    empty = [scene(i) | dict(gt_instances=no_truth, ignored_instances=no_truth) for i in range(4)]
    assert set(numbers(empty, **arguments).values()) == {-1.0}
    both = [sample | dict(pred_instances=nothing) for sample in empty]
    assert set(numbers(both, **arguments).values()) == {-1.0}


def test_what_is_not_finite_is_left_out_and_counted(warned: list[str]) -> None:
    clean = [scene(i) for i in range(4)]
    dirty = [scene(i) for i in range(4)]
    extra = fields(np.array([[1, 1, 50, 50], [2, 2, 60, 60]]), np.array([0, 1]), np.array([np.nan, 0.99]))
    extra["bboxes"][1, 2] = np.inf
    for sample in dirty:
        pred = sample["pred_instances"]
        sample["pred_instances"] = {key: torch.cat([extra[key], pred[key]]) for key in pred}
    made = metric(metric=["bbox", "segm"])
    made.process({}, dirty)
    assert sum(result["found"].dropped for result in made.results) == 8
    assert numbers(dirty, metric=["bbox", "segm"]) == numbers(clean, metric=["bbox", "segm"])
    assert "8 predictions with a score or coordinate that is not finite are left out" in warned[0]


def test_padding_of_several_processes_counts_once() -> None:
    samples = [scene(i) for i in range(3)]
    made = metric()
    made.process({}, [*samples, samples[0]])  # the sampler repeats samples to fill the last round
    assert len(made.results) == 4
    assert made.evaluate(3) == {f"coco/{name}": value for name, value in numbers(samples).items()}


def test_data_samples_arrive_through_the_evaluator() -> None:
    given = scene(0)
    evaluator = Evaluator(metric(metric="segm"))
    evaluator.dataset_meta = dict(classes=CLASSES)
    sample = DataSample(metainfo={key: given[key] for key in ("img_id", "img_path", "ori_shape")})
    for key in ("gt_instances", "ignored_instances", "pred_instances"):
        setattr(sample, key, InstanceData(**given[key]))
    evaluator.process([sample])
    assert evaluator.evaluate(1)["coco/segm_mAP"] == numbers([given], metric="segm")["segm_mAP"]


def test_files_without_areas_segmentations_and_crowd_flags(tmp_path: Path) -> None:
    """Missing keys get COCO's meaning; an object without outline does not count for segm."""
    samples = [scene(i, 5) for i in range(6)]
    path = coco_file(tmp_path / "truth.json", samples)
    content = json.loads(path.read_text())
    content["annotations"] = [entry for entry in content["annotations"] if not entry["iscrowd"]]
    for entry in content["annotations"]:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    path.write_text(json.dumps(content))
    full = numbers(samples, ann_file=str(path), metric=("bbox", "segm"))
    for entry in content["annotations"]:
        del entry["area"], entry["iscrowd"], entry["id"]
    broken = dict(image_id=samples[0]["img_id"], category_id=7, bbox=[1, 1, 30, 30])
    broken_masks = [None, [], [[1, 2, 3]], "text", dict(size=[1, 1], counts=[1]), dict(size=list(SIZE), counts=[-5])]
    segm = dict(content, annotations=content["annotations"] + [broken | dict(segmentation=s) for s in broken_masks])
    bbox = dict(content, annotations=content["annotations"] + [broken | dict(bbox=b) for b in (None, [1, 2], "x")])
    path.write_text(json.dumps(bbox))
    assert numbers(samples, ann_file=str(path)) == {k: v for k, v in full.items() if k.startswith("bbox")}
    path.write_text(json.dumps(segm))
    bare = numbers(samples, ann_file=str(path), metric="segm")
    assert bare["segm_mAP"] == full["segm_mAP"] and bare["segm_AR@100"] == full["segm_AR@100"]


def test_format_only(tmp_path: Path) -> None:
    samples = [scene(i) for i in range(3)]
    for sample in samples:
        del sample["gt_instances"]
    arguments = dict(metric="segm", format_only=True, outfile_prefix=str(tmp_path / "test/r"))
    assert numbers(samples, dict(cat_ids=[11, 12, 13]), **arguments) == {}
    boxes, masks = (json.loads((tmp_path / f"test/r.{kind}.json").read_text()) for kind in ("bbox", "segm"))
    assert len(boxes) == len(masks) == sum(len(s["pred_instances"]["scores"]) for s in samples)
    assert set(boxes[0]) == {"image_id", "category_id", "bbox", "score"} and boxes[0]["image_id"] == 100
    assert set(masks[0]) == {"image_id", "category_id", "segmentation", "score"}
    assert {entry["category_id"] for entry in boxes} == {11, 12, 13}
    assert masks[0]["segmentation"]["size"] == list(SIZE) and isinstance(masks[0]["segmentation"]["counts"], str)
    assert not (tmp_path / "test/r.gt.json").exists()


def test_errors_of_samples() -> None:
    good = scene(0)
    with pytest.raises(BadSampleError, match=r"^0\.png: pred_instances holds label 9, but .* 3 classes"):
        bad = dict(good["pred_instances"], labels=torch.full_like(good["pred_instances"]["labels"], 9))
        metric().process({}, [good | dict(pred_instances=bad)])
    with pytest.raises(BadSampleError, match=r"^0\.png: pred_instances holds bboxes .* \(n, 4\), \(n,\) and \(n,\)"):
        short = dict(good["pred_instances"], scores=good["pred_instances"]["scores"][1:])
        metric().process({}, [good | dict(pred_instances=short)])
    with pytest.raises(BadSampleError, match=r"^0\.png: pred_instances has no masks"):
        plain = {key: value for key, value in good["pred_instances"].items() if key != "masks"}
        metric(metric="segm").process({}, [good | dict(pred_instances=plain)])
    with pytest.raises(BadSampleError, match=r"masks of \(H, W\) \[\(150, 200\)\] .* size \(300, 400\)"):
        metric(metric="segm").process({}, [good | dict(ori_shape=(300, 400))])
    for key in ("pred_instances", "gt_instances", "img_id"):
        with pytest.raises(BadSampleError, match=rf"^0\.png: no {key}"):
            metric().process({}, [{name: value for name, value in good.items() if name != key}])
    with pytest.raises(DataError, match="image 100 was predicted more than once"):
        numbers([good, good])
    with pytest.raises(DataError, match="names no classes"):
        CocoMetric().process({}, [good])


def test_errors_of_arguments_and_files(tmp_path: Path) -> None:
    for arguments, message in (
        (dict(metric="bbx"), '"bbx".*"bbox"'),
        (dict(backend="pycocotool"), '"pycocotools"'),
        (dict(max_dets=(100, 10, 1)), "three rising limits"),
        (dict(proposal_nums=(100,)), "three rising limits"),
        (dict(format_only=True), "outfile_prefix"),
    ):
        with pytest.raises(ConfigError, match=message):
            CocoMetric(**arguments)
    with pytest.raises(DataError, match="gone.json: annotation file does not exist"):
        numbers([scene(0)], ann_file=str(tmp_path / "gone.json"))
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DataError, match="list.json: a COCO file is an object with images"):
        numbers([scene(0)], ann_file=str(tmp_path / "list.json"))
    path = coco_file(tmp_path / "truth.json", [scene(0)])
    with pytest.raises(DataError, match='no category "dgo".*did you mean "dog"'):
        numbers([scene(0)], dict(classes=("cat", "dgo", "emu")), ann_file=str(path))
    with pytest.raises(BadSampleError, match="1.png: image 101 is not in .*truth.json"):
        numbers([scene(1)], ann_file=str(path))


def test_a_missing_backend_names_the_package_and_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingDependencyError, match='pip install faster-coco-eval; or set backend="pycocotools"'):
        CocoMetric()
    assert CocoMetric(backend="pycocotools").backend == "pycocotools"


def test_a_data_set_without_truth_is_refused_at_the_start(tmp_path: Path) -> None:
    bare = DataSample(metainfo=dict(img_id=100, img_path="0.png"))
    with pytest.raises(DataError, match=r"^0\.png: CocoMetric needs gt_instances and .* with_bbox=True\)"):
        CocoMetric().check_sample(bare)
    boxes = bare.clone()
    boxes.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
    CocoMetric().check_sample(boxes)
    with pytest.raises(DataError, match=r"gt_instances with masks .* with_mask=True"):
        CocoMetric(metric="segm").check_sample(boxes)
    CocoMetric(format_only=True, outfile_prefix="x").check_sample(bare)
    path = coco_file(tmp_path / "truth.json", [scene(0)])
    CocoMetric(ann_file=str(path)).check_sample(bare)
    with pytest.raises(DataError, match="no img_id"):
        CocoMetric(ann_file=str(path)).check_sample(DataSample())


def test_a_file_below_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``data/...`` is found where the data sets find it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf/set").mkdir(parents=True)
    coco_file(tmp_path / "shelf/set/truth.json", [scene(0)])
    monkeypatch.setenv("VISIONPATCH_DATA", str(tmp_path / "shelf"))
    assert numbers([scene(0)], ann_file="data/set/truth.json")["bbox_mAP"] > 0
