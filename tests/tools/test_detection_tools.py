"""tools/test.py, analyze_results.py, browse_dataset.py and the demo on a detector, in this process."""

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from engine.tiny import TinyBackbone
from engine.tiny_detection import NAMES, SIZE, write_detection_config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tool import load, run

from visionpatch.apis import DetectionInferencer, SegmentationInferencer, build_inferencer
from visionpatch.engine.predictions import mask_of, read_predictions
from visionpatch.errors import ConfigError

ANALYZE = "tools/analysis_tools/analyze_results.py"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    torch.save({"state_dict": {"unused": torch.zeros(1)}, "meta": {}}, "w.pth")
    path = write_detection_config(tmp_path)
    name = f"experiment_name = '{tmp_path.name}'; log_level = 'WARNING'\n"
    path.write_text(name + path.read_text())
    logging.disable(logging.INFO)
    yield path
    logging.disable(logging.NOTSET)


def test_testing_gives_pycocotools_numbers(config: Path, capsys: pytest.CaptureFixture) -> None:
    """Three of four objects are found exactly: of red and blue all, of green one of two."""
    assert run("tools/test.py", config, "w.pth", "--out", "p.npz", "--show-dir", "drawn") == 0
    capsys.readouterr()
    expected = {}
    for kind in ("bbox", "segm"):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO("truth.json")
            theirs = COCOeval(truth, truth.loadRes(f"results.{kind}.json"), kind)
            theirs.evaluate()
            theirs.accumulate()
            theirs.summarize()
        expected[kind] = float(theirs.stats[0])
    assert expected["bbox"] == expected["segm"] == pytest.approx((1 + 51 / 101 + 1) / 3)
    for kind, value in expected.items():
        goal = f"coco/{kind}_mAP={value - 1e-12!r}"
        assert run("tools/test.py", config, "w.pth", "--expect", goal) == 0
        assert run("tools/test.py", config, "w.pth", "--expect", f"coco/{kind}_mAP={value + 1e-12!r}") == 1
    records = {Path(r["img_path"]).name: r for r in read_predictions("p.npz")}
    assert sorted(records) == sorted(NAMES) and records["miss.png"]["masks"] == []
    assert records["one.png"]["bboxes"].round(3).tolist() == [[10, 10, 30, 40], [50, 20, 70, 40]]
    assert [int(mask_of(runs).sum()) for runs in records["one.png"]["masks"]] == [600, 400]
    picture = cv2.imread("drawn/one.png")
    assert sorted(p.stem for p in Path("drawn").iterdir()) == ["miss", "none", "one", "two"]
    assert picture.shape[1] == 2 * 4 * SIZE[1] + 8  # truth and prediction, enlarged to 320 pixels or more


def test_json_predictions_and_an_evaluation_without_a_file(config: Path) -> None:
    config.write_text(config.read_text() + "test_evaluator['ann_file'] = None\n")
    assert run("tools/test.py", config, "w.pth", "--out", "p.json") == 0
    assert sorted(json.loads(Path("results.gt.json").read_text())) == ["annotations", "categories", "images"]
    assert len(read_predictions("p.json")) == 4
    without = config.with_name("without.py")
    without.write_text(config.read_text().replace("dict(type='LoadAnnotations', with_bbox=True, with_mask=True), ", ""))
    assert run("tools/test.py", without, "w.pth") == 2


def test_analysis_draws_the_worst_and_the_best(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("tools/test.py", config, "w.pth", "--out", "p.npz") == 0
    assert run(ANALYZE, config, "p.npz", "--number", "2") == 0
    assert "4 pictures score 0.750 on average, from 0.000 to 1.000" in capsys.readouterr().out
    worst, best = (sorted(p.name for p in Path("analysis", name).iterdir()) for name in ("worst", "best"))
    assert worst[0] == "000_0.000_miss.png" and len(worst) == len(best) == 2
    assert best[0].startswith("000_1.000_") and best[1].startswith("001_1.000_")
    truth = cv2.imread("analysis/worst/000_0.000_miss.png")
    assert truth.shape[1] == 808 or truth.std() > 5
    assert run(ANALYZE, config, "p.npz", "--number", "0") == 2
    assert run(ANALYZE, config, "gone.npz") == 2


def test_analysis_of_a_pipeline_that_loads_no_truth(config: Path, capsys: pytest.CaptureFixture) -> None:
    """The boxes are the data set's; what is compared is the same."""
    config.write_text(config.read_text().replace("dict(type='LoadAnnotations', with_bbox=True, with_mask=True), ", ""))
    assert run("tools/test.py", config, "w.pth", "--out", "p.npz") == 0
    assert run(ANALYZE, config, "p.npz", "--number", "1") == 0
    assert "4 pictures score 0.750 on average, from 0.000 to 1.000" in capsys.readouterr().out
    assert cv2.imread("analysis/worst/000_0.000_miss.png").shape[1] == 2 * 4 * SIZE[1] + 8  # the truth beside it


def test_browsing_draws_boxes(config: Path) -> None:
    assert run("tools/analysis_tools/browse_dataset.py", config, "--split", "test") == 0
    drawn = cv2.imread("browse/0000_one.png")
    assert drawn.shape == (240, 320, 3)  # the file, enlarged by 4: pixels of the file count
    red, green = drawn[40 + 119, 60], drawn[100, 200]  # the lower side of the first box, the left one of the second
    assert red.tolist() == [0, 0, 128] and green.tolist() == [0, 128, 0]


def test_inferencer_and_demo(config: Path, capsys: pytest.CaptureFixture) -> None:
    inferencer = build_inferencer(config, "w.pth", "cpu")
    assert isinstance(inferencer, DetectionInferencer)
    sample = inferencer("images/one.png")[0]
    assert sample.pred_instances.bboxes.round().tolist() == [[10, 10, 30, 40], [50, 20, 70, 40]]
    image = cv2.imread("images/one.png")
    drawn = inferencer.draw(image, sample)
    inferencer.score_thr = 0.99
    empty = inferencer.draw(image, sample)
    assert drawn.shape == empty.shape == (4 * 60, 4 * 80, 3) and (drawn != empty).any()
    assert (empty == image.repeat(4, 0).repeat(4, 1)).all()
    assert run("demo/image_demo.py", "images", config, "--weights", "w.pth", "--out-dir", "out", "--device", "cpu") == 0
    assert "wrote 4 picture(s) to out/" in capsys.readouterr().out
    assert (cv2.imread("out/one.png") == drawn).all()
    options = ("--weights", "w.pth", "--out-dir", "out", "--device", "cpu", "--score-thr", "0.99")
    assert run("demo/image_demo.py", "images/one.png", config, *options) == 0
    assert (cv2.imread("out/one.png") == empty).all()


def test_a_model_for_another_task(config: Path) -> None:
    with pytest.raises(ConfigError, match="SegmentationInferencer needs a model with decode_head; .* type, bbox_head"):
        SegmentationInferencer(config)
    other = config.with_name("other.py")
    other.write_text(f"model = dict(type='{TinyBackbone.__name__}')\n")
    with pytest.raises(ConfigError, match="only models with decode_head, bbox_head, roi_head, rpn_head are drawn"):
        build_inferencer(other)


def test_segmentations_are_analyzed_by_iou(tmp_path: Path) -> None:
    """Half of a picture of class 0 is taken for class 1: IoU 1/2 and 0."""
    from mmengine.structures import PixelData

    from visionpatch.structures import DataSample

    tool = load(ANALYZE)
    sample = DataSample(metainfo=dict(img_path="a.png"))
    assert tool.put_prediction(sample, dict(sem_seg=torch.tensor([[0, 1]]).numpy())) is None
    assert tool.picture_score(sample, 3, 0.3) != tool.picture_score(sample, 3, 0.3)  # nan
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, 0]]]))
    assert tool.picture_score(sample, 3, 0.3) == 0.25
