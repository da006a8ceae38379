"""``tools/train.py --dry-run``: everything a training needs is built and used once, and its sizes are printed."""

import resource
import tempfile
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from visionpatch.engine import build_runner
from visionpatch.engine.checkpoint_hook import CheckpointHook
from visionpatch.engine.config import WITH_WORKERS
from visionpatch.engine.guard import check_losses
from visionpatch.engine.hooks import check_classes, check_dataset, check_truth
from visionpatch.engine.loading import unwrapped


def dry_run(cfg: Config, console: Console | None = None) -> None:
    """Build all parts of `cfg`, run one training and one validation iteration on real samples, print what they did.

    The table gives the shapes out of every stage of the model, its parameters, the losses, the metrics of the one
    validation batch, the peak memory and which keys of `load_from` and of pretrained parts matched. Only a temporary
    folder is written to.
    """
    console = console or Console()
    with tempfile.TemporaryDirectory() as folder:
        cfg = _quiet(cfg, folder)
        runner = build_runner(cfg)
        rows = [*_sizes(runner.model), *_train_once(runner), *_validate_once(runner)]
    table = Table("stage", "result", title="dry run", title_justify="left")
    for name, value in [*rows, ("peak memory", _peak_memory())]:
        table.add_row(name, value)
    console.print(table)


def _quiet(cfg: Config, folder: str) -> Config:
    cfg = Config(cfg._cfg_dict.copy(), filename=cfg.filename)
    cfg.work_dir, cfg.log_level, cfg.visualizer = folder, "WARNING", None
    for name in ("train_dataloader", "val_dataloader"):
        if cfg.get(name) is not None:  # samples are read here, so that an error in them is seen as it is
            cfg[name] = {k: v for k, v in cfg[name].items() if k not in WITH_WORKERS + ("bad_samples",)}
            cfg[name].num_workers = 0
    return cfg


def _sizes(model: nn.Module) -> list[tuple[str, str]]:
    def count(module: nn.Module) -> str:
        total = sum(p.numel() for p in module.parameters())
        fixed = total - sum(p.numel() for p in module.parameters() if p.requires_grad)
        return f"{total:,}" + (f" ({fixed:,} of them frozen)" if fixed else "")

    parts = [(name, child) for name, child in model.named_children() if any(True for _ in child.parameters())]
    return [("parameters", count(model)), *((f"  {name}", count(child)) for name, child in parts)]


def _train_once(runner: Runner) -> list[tuple[str, str]]:
    loader = runner.train_dataloader
    loader = runner.build_dataloader(loader, seed=runner.seed) if isinstance(loader, dict) else loader
    _check(runner, loader, "train_dataloader.dataset")
    model = runner.model
    optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optim_wrapper.initialize_count_status(model, 0, 1)
    runner._init_model_weights()
    rows = [*_weights(model), *_load_from(runner)]
    batch = next(iter(loader))
    shapes = _shapes(model, batch)
    model.train()
    losses = model.train_step(batch, optim_wrapper)
    check_losses(losses, 1, batch)
    shown = ", ".join(f"{name} {float(value.detach()):.4f}" for name, value in losses.items() if value.numel() == 1)
    return [*rows, ("samples", f"{len(loader.dataset)} to train on"), *shapes, ("training iteration", shown)]


def _validate_once(runner: Runner) -> list[tuple[str, str]]:
    if runner._val_dataloader is None:
        return [("validation iteration", "none configured")]
    loader, evaluator = runner.val_dataloader, runner.build_evaluator(runner._val_evaluator)
    _check(runner, loader, "val_dataloader.dataset")
    check_truth(loader.dataset, evaluator.metrics, "val_dataloader.dataset")
    evaluator.dataset_meta = getattr(loader.dataset, "metainfo", None)
    batch = next(iter(loader))
    runner.model.eval()
    with torch.no_grad():
        outputs = runner.model.val_step(batch)
    evaluator.process(data_samples=outputs, data_batch=batch)
    metrics = evaluator.evaluate(len(outputs))
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            hook.check_metrics(metrics)
    shown = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, int | float) else name for name, value in metrics.items()
    )
    return [("samples", f"{len(loader.dataset)} to validate on"), ("validation iteration", shown or "done")]


def _check(runner: Runner, loader: Any, path: str) -> None:
    dataset = unwrapped(loader.dataset)
    check_dataset(dataset, path)
    check_classes(runner.model, dataset, runner.cfg, path)


def _weights(model: nn.Module) -> Iterable[tuple[str, str]]:
    for name, module in model.named_modules():
        if getattr(module, "load_report", None) is not None:
            yield f"weights of {name or 'the model'}", module.load_report.summary()
        if getattr(module, "pretrained_keys", 0):
            yield (
                f"weights of {name or 'the model'}",
                f"{module.pretrained_keys} keys matched, of the installed package",
            )


def _load_from(runner: Runner) -> Iterable[tuple[str, str]]:
    if runner._load_from:
        runner.load_checkpoint(runner._load_from)
        yield f"weights of {runner._load_from}", runner.load_report.summary()


def _shapes(model: nn.Module, batch: Any) -> list[tuple[str, str]]:
    """Shapes out of each child of the model, in the order they ran, and of its raw output."""
    inner: Any = getattr(model, "module", model)
    rows: list[tuple[str, str]] = []
    hooks = [
        child.register_forward_hook(lambda module, args, output, name=name: rows.append((name, shape_text(output))))
        for name, child in inner.named_children()
        if name != "data_preprocessor"
    ]
    try:
        inner.eval()
        data = inner.data_preprocessor(batch, False)
        inputs = data["inputs"]
        with torch.no_grad():
            output = inner(inputs, data.get("data_samples"), mode="tensor")
    finally:
        for hook in hooks:
            hook.remove()
    return [
        ("network input", shape_text(inputs) if isinstance(inputs, Tensor) else f"{len(inputs)} images"),
        *rows,
        ("raw output", shape_text(output)),
    ]


def shape_text(value: Any) -> str:
    """``(2, 64, 56, 56)`` for a tensor, a line for each of several."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return "\n".join(shape_text(child) for child in children) or type(value).__name__


def _peak_memory() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB of the process"
