"""Adapters of SCCAN's data and metric: lists and episodes of ``SemData``, transforms, the numbers of ``validate``.

A case of the metric may hold its episodes in several ways: a list of mappings among the inputs, or arrays of all
episodes or of numbered ones. A map is an array, a nested list, a draw, or painted from rectangles.
"""

import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from golden.heads import Arrays, Draw
from visionpatch.datasets import EpisodeDataset, draw_episode, fold_classes
from visionpatch.datasets.transforms import LoadImage, Resize, ResizeToCanvas
from visionpatch.evaluation.few_shot_metric import episode_areas, few_shot_values
from visionpatch.models import DataPreprocessor

CLASSES = {"pascal": 20, "coco": 80}
LABELS = ("label", "raw_label", "ori_label", "target", "gt", "mask")
PREDICTIONS = ("logits", "logit", "output", "prediction", "pred")
INDICES = ("subcls", "class_index", "index", "idx", "class", "class_id", "cls", "cat")


def run(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Any]:
    """Whichever of the three the source is about."""
    source = case["source"]
    if "SemData" in source or "make_dataset" in source:
        return run_episodes(case)
    if "validate" in source or "intersectionAndUnion" in source:
        return run_metric(case, arrays, draw)
    return run_transform(case, draw)


def run_episodes(case: Mapping) -> dict[str, Any]:
    """The lists of both modes, and the episodes of one, drawn one after the other from one generator."""
    model, inputs = case["model"], case["inputs"]
    names = [entry["name"] for entry in inputs["table"]]
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), inputs["table"])
        sets = {mode: _dataset(folder, names, case, mode) for mode in ("train", "val")}
        lists = {mode: _named_lists(dataset, names) for mode, dataset in sets.items()}
        found = re.search(r"mode '(\w+)'", case["source"])
        dataset = sets["train" if model.get("mode", found[1] if found else "val") == "train" else "val"]
        seed, number = _number(r"seed\((\d+)\)", inputs["sampling"], 321), _number(r"(\d+) in all", inputs["sampling"])
        episodes = list(_episodes(dataset, names, seed, number, model["shot"]))
    known = {key for episode in case["expected"]["episodes"] for key in episode}
    told = [{key: value for key, value in episode.items() if key in known} for episode in episodes]
    arrays = {
        key: torch.tensor([episode[key] for episode in episodes], dtype=torch.float32)
        for key in ("class", "label_pixels", "raw_label_pixels", "support_pixels")
    }
    return arrays | dict(expected=dict(lists=lists, episodes=told))


def write_pictures(folder: Path, table: Sequence[Mapping]) -> None:
    """Black pictures and their label maps, as the table describes them; split.txt lists them in its order."""
    for entry in table:
        labels = painted(entry)
        cv2.imwrite(str(folder / f"{entry['name']}.png"), labels)
        cv2.imwrite(str(folder / f"{entry['name']}.jpg"), np.zeros((*labels.shape, 3), np.uint8))
    (folder / "split.txt").write_text("\n".join(entry["name"] for entry in table))


def painted(entry: Mapping) -> np.ndarray:
    """Rectangles [class, y0, x0, y1, x1] in their order on zeros of ``size``, then 255 in those of ``ignore``."""
    labels = np.zeros(entry["size"], np.uint8)
    for value, top, left, bottom, right in [*entry.get("rects", ()), *((255, *box) for box in entry.get("ignore", ()))]:
        labels[top:bottom, left:right] = value
    return labels


def _dataset(folder: str, names: Sequence[str], case: Mapping, mode: str) -> EpisodeDataset:
    model = case["model"]
    number = CLASSES[model["data_set"]]
    load = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="SelectClass")]
    steps = [*load, published_transform(case), dict(type="PackInputs")]
    return EpisodeDataset(
        dict(
            type="FolderDataset",
            data_root=folder,
            data_prefix=dict(img_path="", seg_map_path=""),
            img_suffix=".jpg",
            seg_map_suffix=".png",
            ann_file="split.txt",
            metainfo=dict(classes=("background", *map(str, range(1, number + 1)))),
        ),
        fold=model["split"],
        split="interleaved" if model["data_set"] == "coco" and model.get("use_split_coco") else "blocks",
        shot=model["shot"],
        ann_type=model.get("ann_type", "mask"),
        rare_classes="keep",
        pipeline=steps,
        test_mode=mode != "train",
    )


def published_transform(case: Mapping) -> Callable:
    """Ours for the published Resize(size), test_Resize(size) or Direct_Resize(size)."""
    calls = re.findall(r"\b(Resize|test_Resize|Direct_Resize)\((\d*)", case["source"])
    kind, given = calls[-1] if calls else ("Resize" if case["model"].get("resized_val", True) else "test_Resize", "")
    size = int(given or case["model"].get("val_size") or 473)
    return Resize(scale=(size, size)) if kind == "Direct_Resize" else ResizeToCanvas(size, shrink_only=kind != "Resize")


def _named_lists(dataset: EpisodeDataset, names: Sequence[str]) -> dict[str, Any]:
    lists = dataset.lists
    per_class = {str(index): [names[picture] for picture in lists.pictures[index]] for index in lists.classes}
    return dict(data_list=[names[picture] for picture in lists.queries], sub_class_file_list=per_class)


def _episodes(dataset: EpisodeDataset, names: Sequence[str], seed: int, number: int, shot: int) -> Iterator[dict]:
    rng = random.Random(seed)
    for item in range(number):
        episode = draw_episode(dataset.lists, item % len(dataset.lists.queries), shot, rng)
        sample = dataset.load(episode)["data_samples"]
        raw = cv2.imread(dataset.dataset.get_data_info(episode.query)["seg_path"], cv2.IMREAD_GRAYSCALE)
        yield {
            "query": names[episode.query],
            "class": episode.class_id,
            "support": [names[picture] for picture in episode.supports],
            "label_pixels": _pixels(sample.gt_sem_seg.data),
            "raw_label_pixels": _pixels(torch.from_numpy(np.where(raw == 255, 255, raw == episode.class_id))),
            "support_pixels": [_pixels(support.gt_sem_seg.data) for support in sample.support],
        }


def _pixels(labels: Tensor) -> list[int]:
    return [int((labels == value).sum()) for value in (0, 1, 255)]


def run_transform(case: Mapping, draw: Draw) -> dict[str, Tensor]:
    """``image_<tag>``, normalised, and ``label_<tag>`` of every input."""
    outputs = {}
    mean, std = case["model"]["mean"], case["model"]["std"]
    preprocessor = DataPreprocessor(mean=mean, std=std)
    for tag, spec in case["inputs"].items():
        image = (draw(spec["draw"], spec["shape"]) * 50 + 128).clamp(0, 255).to(torch.uint8).numpy()  # (H, W, 3) RGB
        results: Any = LoadImage(to_float32=True)(dict(img=np.ascontiguousarray(image[..., ::-1])))
        results |= dict(gt_seg_map=_described_label(spec["label"], image.shape[:2]), seg_fields=["gt_seg_map"])
        size = case["model"] | dict(val_size=spec.get("val_size", case["model"].get("val_size")))
        results = published_transform({**case, "model": size})(results)
        picture = torch.from_numpy(results["img"]).permute(2, 0, 1)
        outputs[f"image_{tag}"] = preprocessor(dict(inputs=[picture]))["inputs"][0]
        outputs[f"label_{tag}"] = torch.from_numpy(results["gt_seg_map"])
    return outputs


def _described_label(text: str, size: Sequence[int]) -> np.ndarray:
    """Zeros with "V in rows A..B, columns C..D", both ends included, or "the same columns" as before."""
    labels, columns = np.zeros(size, np.uint8), (0, 0)
    for value, top, bottom, left, right in re.findall(
        r"(\d+) in rows (\d+)\.\.(\d+), (?:columns (\d+)\.\.(\d+)|the same)", text
    ):
        columns = (int(left), int(right)) if left else columns
        labels[int(top) : int(bottom) + 1, columns[0] : columns[1] + 1] = int(value)
    return labels


def run_metric(case: Mapping, arrays: Arrays, draw: Draw) -> dict[str, Any]:
    """The numbers of the published validation, as fractions, under every name that the case may use for them."""
    model = case["model"]
    number = CLASSES[model.get("data_set", "pascal")]
    interleaved = number == 80 and model.get("use_split_coco", True)
    novel = fold_classes(range(1, number + 1), model.get("split", 0), 4, "interleaved" if interleaved else "blocks")
    rows, indices = [], []
    for label, prediction, index, word in read_episodes(case["inputs"], arrays, draw):
        labels, found = _published_sizes(label, prediction, model.get("ori_resize", True))
        rows.append(episode_areas(found, labels))
        indices.append((word, index))
    positions = _positions(indices, novel)
    episodes = np.array([(place, *row) for place, row in zip(positions, rows)], np.int64).reshape(-1, 5)
    numbers = _published_numbers(episodes, len(novel))
    if "class_miou" in {**case["outputs"], **case.get("expected", {})}:
        numbers["miou"] = numbers["fbiou"]  # the name of the mean over background and object beside that one
    names = [*case["outputs"], *arrays]
    outputs: dict[str, Any] = {name: numbers[_plain(name)] for name in names if _plain(name) in numbers}
    return outputs | dict(expected={name: numbers[_plain(name)] for name in case.get("expected", ())})


def read_episodes(inputs: Mapping, arrays: Arrays, draw: Draw) -> Iterator[tuple[np.ndarray, np.ndarray, int, str]]:
    """(label (h, w), prediction (h, w) or logits (2, S, S), class, what the case calls the class) of each episode.

    Raises:
        LookupError: the case holds its episodes in another way.
    """
    listed = next((v for v in inputs.values() if isinstance(v, list) and v and isinstance(v[0], Mapping)), None)
    number = 0
    while listed is None or number < len(listed):
        given = [_find(words, number, listed, inputs, arrays, draw) for words in (LABELS, PREDICTIONS, INDICES)]
        if any(value is None for _, value in given):
            break
        (_, label), (_, prediction), (word, index) = given
        yield label, prediction, int(np.asarray(index).reshape(-1)[0]), word
        number += 1
    if not number or (listed is not None and number < len(listed)):
        raise LookupError(f"no episodes found in the inputs {sorted(inputs)} and arrays {sorted(arrays)}")


def _find(
    words: Sequence[str], number: int, listed: list | None, inputs: Mapping, arrays: Arrays, draw: Draw
) -> tuple[str, Any]:
    for word in words:
        if listed is not None and word in listed[number]:
            return word, _as_array(listed[number][word], arrays, draw)
        for name in (word, f"{word}s", f"{word}es"):
            for place in (arrays, inputs):
                value = place.get(name)
                if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and number < len(value):
                    return word, _as_array(value[number], arrays, draw)
        for name in (f"{word}{number}", f"{word}_{number}"):
            if name in arrays or name in inputs:
                return word, _as_array(arrays[name] if name in arrays else inputs[name], arrays, draw)
    return "", None


def _as_array(value: Any, arrays: Arrays, draw: Draw) -> np.ndarray:
    if isinstance(value, str):
        return arrays[value]
    if isinstance(value, Mapping):
        made = draw(value["draw"], value["shape"]).numpy() if "draw" in value else painted(value)
        return made * value.get("scale", 1)
    return np.array(value)


def _published_sizes(label: np.ndarray, prediction: np.ndarray, ori_resize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both as maps (h, w): logits are resized to the square of the label's longer side, and the larger wins."""
    label, prediction = (a[0] if a.ndim > 2 and len(a) == 1 else a for a in (label, prediction))
    if prediction.ndim == 2 or len(prediction) == 1:
        return label, prediction.reshape(prediction.shape[-2:])
    logits = torch.from_numpy(np.ascontiguousarray(prediction, np.float32))[None]
    if ori_resize:
        logits = F.interpolate(logits, size=(max(label.shape),) * 2, mode="bilinear", align_corners=True)
    return label, logits[0].argmax(0).numpy()[: label.shape[0], : label.shape[1]]


def _positions(indices: Sequence[tuple[str, int]], novel: Sequence[int]) -> list[int]:
    """Places among the novel classes: the numbers of a case are such places, or class indices."""
    values = [index for _, index in indices]
    places = any(value == 0 for value in values) or any(word in INDICES[:4] for word, _ in indices)
    return values if places else [novel.index(value) for value in values]


def _published_numbers(episodes: np.ndarray, classes: int) -> dict[str, Tensor]:
    ious, means = few_shot_values(episodes, range(classes))
    totals = episodes[:, 1:].sum(0).astype(np.float64).reshape(2, 2)  # of background and object: I, U
    sums = np.array([episodes[episodes[:, 0] == place, 3:].sum(0) for place in range(classes)], np.float64)
    values = dict(miou=means["mIoU"] / 100, fbiou=means["FBIoU"] / 100, piou=means["pIoU"] / 100, classiou=ious / 100)
    values |= dict(iouclass=totals[:, 0] / (totals[:, 1] + 1e-10), intersection=totals[:, 0], union=totals[:, 1])
    values |= dict(classintersection=sums[:, 0], classunion=sums[:, 1])
    other = dict(classmiou="miou", miouf="miou", meaniou="miou", fbiouf="fbiou", perclass="classiou")
    values |= {name: values[same] for name, same in other.items()} | dict(classious=values["classiou"])
    return {name: torch.as_tensor(np.asarray(value, np.float64)) for name, value in values.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _number(pattern: str, text: str, default: int | None = None) -> int:
    found = re.search(pattern, text)
    if found is None and default is None:
        raise LookupError(f'"{pattern}" is not in: {text}')
    return int(found[1]) if found else int(default or 0)


WORDS = ("SemData", "make_dataset", "transform", "Resize", "test_Resize", "Direct_Resize", "validate", "test_sccan",
         "intersectionAndUnionGPU")  # fmt: skip
ADAPTERS: dict[str, Callable[..., dict[str, Any]]] = dict.fromkeys(WORDS, run)
