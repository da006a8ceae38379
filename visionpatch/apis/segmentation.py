"""Segmenting pictures with a config and a checkpoint."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from numpy import ndarray

from visionpatch.apis.models import get_config, get_model
from visionpatch.datasets.transforms import Compose
from visionpatch.errors import ConfigError
from visionpatch.palette import colour_map
from visionpatch.registry import DATASETS, INFERENCERS, SCOPE
from visionpatch.structures import DataSample
from visionpatch.visualization.segmentation import draw_segmentation

Picture = str | Path | ndarray


@INFERENCERS.register_module()
class SegmentationInferencer:
    """Semantic segmentation of pictures, read and prepared by the config's test pipeline.

    Args:
        config: a name of `list_models`, a config file or a Config.
        weights: the checkpoint; None warns, since what an untrained model says is noise.
        device: such as ``"cpu"`` or ``"cuda:0"``; None takes a GPU if there is one.

    Attributes:
        classes, palette: of the checkpoint's dataset, else of the config's, else numbered.
    """

    def __init__(
        self, config: str | Path | Config, weights: str | Path | None = None, device: str | None = None
    ) -> None:
        self.cfg = config if isinstance(config, Config) else get_config(config)
        if weights is None:
            warnings.warn("SegmentationInferencer without weights: the model is untrained", stacklevel=2)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f'device = "{device}", but torch sees no GPU; use "cpu"')
        model: Any = get_model(self.cfg, weights, device)
        self.model = model
        meta = getattr(model, "dataset_meta", None) or _dataset_meta(self.cfg)
        self.classes: Sequence[str] = meta.get("classes") or [f"class {i}" for i in range(model.num_classes)]
        self.palette = meta.get("palette") or colour_map(len(self.classes))
        with DefaultScope.overwrite_default_scope(SCOPE):
            self.pipeline = Compose(_without_truth(self.cfg))

    def __call__(self, pictures: Picture | Sequence[Picture]) -> list[DataSample]:
        """Segment one picture or several: paths, or arrays (H, W, 3) BGR uint8.

        Returns:
            a DataSample for each, with ``pred_sem_seg`` of the size of the picture.

        Raises:
            BadSampleError: a picture cannot be read.
        """
        return list(self.stream([pictures] if isinstance(pictures, str | Path | ndarray) else pictures))

    def stream(self, pictures: Sequence[Picture]) -> Iterator[DataSample]:
        """One by one, so that the pictures need not fit in memory together."""
        for index, picture in enumerate(pictures):
            packed: Any = self.pipeline(_results(picture, index))
            with torch.inference_mode():
                yield self.model.test_step(dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]]))[0]

    def draw(self, image: ndarray, sample: DataSample, opacity: float = 0.5) -> ndarray:
        """The prediction over its picture (H, W, 3) BGR, with a legend."""
        labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
        return draw_segmentation(image, labels, self.classes, self.palette, opacity)


def _results(picture: Picture, index: int) -> dict[str, Any]:
    path = f"array {index}" if isinstance(picture, ndarray) else str(picture)
    given = dict(img=picture) if isinstance(picture, ndarray) else {}
    common = dict(img_id=Path(path).stem, sample_idx=index, seg_fields=[], reduce_zero_label=False)
    return dict(given, img_path=path, seg_path=None, **common)


def _without_truth(cfg: Config) -> list:
    """The test pipeline without the steps that read annotations."""
    dataset = _test_dataset(cfg)
    steps = dataset.get("pipeline") or cfg.get("test_pipeline")
    if not steps:
        raise ConfigError(
            f"{cfg.filename}: test_dataloader.dataset.pipeline is missing; it says how pictures are prepared"
        )
    return [step for step in steps if not str(step.get("type", "")).endswith("LoadAnnotations")]


def _test_dataset(cfg: Config) -> dict:
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    return loader.get("dataset") or {}


def _dataset_meta(cfg: Config) -> dict:
    """Classes and palette as the config's dataset class declares them, without reading data."""
    dataset = _test_dataset(cfg)
    kind = DATASETS.get(dataset["type"]) if isinstance(dataset.get("type"), str) else None
    return {**(getattr(kind, "METAINFO", None) or {}), **(dataset.get("metainfo") or {})}
