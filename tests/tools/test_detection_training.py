"""tools/train.py on COCO files with nothing to find, with broken entries, and on pictures without objects."""

import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine.tiny_detection import write_coco
from models.test_detection_learning import BACKBONE, MASK
from tool import run

PIPELINE = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]
CONFIG = """
default_scope = 'visionpatch'
log_level, experiment_name = 'WARNING', {name!r}
model = {model!r}
data = dict(type='CocoDataset', data_root={root!r}, ann_file='truth.json', data_prefix=dict(img='images'))
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(**data, filter_cfg=None, pipeline={pipeline!r} + [dict(type='PackInputs')]))
val_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(**data, test_mode=True, pipeline=[dict(type='LoadImage'), dict(type='PackInputs')]))
val_evaluator = dict(type='CocoMetric', ann_file={root!r} + '/truth.json', metric=['bbox', 'segm'])
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict()
"""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Any:
    """Trains a tiny Mask R-CNN on the drawn rectangles after a change of their file: (status, what was printed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    path = write_coco(tmp_path)
    document = json.loads(path.read_text())
    heads = json.loads(json.dumps(MASK))
    heads["roi_head"]["bbox_head"]["num_classes"] = heads["roi_head"]["mask_head"]["num_classes"] = 3
    preprocessor = dict(type="DataPreprocessor", mean=[127.0] * 3, std=[128.0] * 3, pad_size_divisor=32)
    model = dict(type="MaskRCNN", data_preprocessor=preprocessor, backbone=BACKBONE, **heads)

    def call(change: Callable[[dict], Any], *flags: str) -> tuple[int, str]:
        changed = json.loads(json.dumps(document))
        change(changed)
        path.write_text(json.dumps(changed))
        name = uuid.uuid4().hex  # two runs of one second and name share their logs
        text = CONFIG.format(name=name, model=model, root=str(tmp_path), pipeline=PIPELINE)
        (tmp_path / "tiny.py").write_text(text)
        status = run("tools/train.py", "tiny.py", *flags)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    yield call
    logging.disable(logging.NOTSET)


def test_pictures_without_objects_train_and_evaluate(train: Any) -> None:
    """No annotation in any picture: the losses are finite, and every number is -1, nothing to find."""
    status, text = train(lambda document: document["annotations"].clear(), "--dry-run")
    assert status == 0
    assert "loss_mask 0.0000" in text and "loss_bbox 0.0000" in text and "nan" not in text
    for name in ("coco/bbox_mAP -1", "coco/bbox_AR@100 -1", "coco/segm_mAP -1", "coco/segm_AR_l@100 -1"):
        assert name in text
    assert train(lambda document: document["annotations"].clear())[0] == 0


def test_crowds_alone_train_and_evaluate(train: Any) -> None:
    status, text = train(lambda document: [entry.update(iscrowd=1) for entry in document["annotations"]], "--dry-run")
    assert status == 0
    assert "loss_mask 0.0000" in text and "coco/bbox_mAP -1" in text


def test_broken_entries_are_named_or_counted(train: Any) -> None:
    def break_it(document: dict) -> None:
        del document["annotations"][0]["bbox"]
        document["annotations"][1]["bbox"] = [500, 500, 5, 5]
        document["annotations"][2]["segmentation"] = [[1e9, 1, 2, 1e9, 4, 5]]
        document["annotations"].append({**document["annotations"][3], "category_id": 77})

    status, text = train(break_it, "--dry-run")
    assert status == 2
    assert 'truth.json: annotations[0] (id 1): no "bbox"' in text and 'malformed="drop"' in text
    assert "2 entries cannot be used: 1 malformed entry, 1 duplicate id; this is the first" in text
    drop = ["--cfg-options"]
    for split in ("train", "val"):
        drop += [f"{split}_dataloader.dataset.{name}=drop" for name in ("malformed", "duplicates")]
    status, text = train(break_it, "--dry-run", *drop)
    assert status == 0, text
    for part in ("1 malformed entry", "1 duplicate id", "1 box outside the picture", "1 malformed segmentation"):
        assert part in text
    assert "CocoMetric: " in text and "(first: annotations[4], category_id not among the categories)" in text
