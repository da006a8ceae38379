"""When checkpoints are saved, and which are removed: MMEngine's rules, in an order that loses nothing."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook as BaseCheckpointHook
from mmengine.runner import Runner

from visionpatch.engine.atomic import atomic_save, atomic_text
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.engine.processes import together
from visionpatch.engine.resuming import POINTER
from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import HOOKS

REPLACED = "replaced_ckpts"  # names of the files that are removed once the checkpoint that says so is in place


@HOOKS.register_module()
class CheckpointHook(BaseCheckpointHook):
    """MMEngine's hook, with its arguments, so ordered that a loadable checkpoint is there at every instant.

    The new file is whole before the pointer ``last_checkpoint`` names it, and the pointer names it before an old file
    is removed. The checkpoint of a run that a signal stopped is removed once a regular one has been saved. A run killed
    before it could remove a file does so when it goes on.
    """

    _default_greater_keys = [*BaseCheckpointHook._default_greater_keys, "recall", "score", "iou", "kappa", "mcc"]
    last_ckpt: str | None
    file_backend: Any
    stopped_at: Path | None = None

    def _init_rule(self, rules: Any, key_indicators: Any) -> None:
        try:
            super()._init_rule(rules, key_indicators)
        except (KeyError, ValueError):
            raise ConfigError(
                f"default_hooks.checkpoint: save_best = {key_indicators}, rule = {rules}: is a greater or a smaller "
                'value the better one? set rule="greater" or rule="less"'
            ) from None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.stopped_at = getattr(runner, "resumed_from_stop", None)
        source = getattr(runner, "resumed_from", None)
        if source and source.parent.resolve() == Path(self.out_dir).resolve() and is_main_process():
            for name in runner.message_hub.runtime_info.get(REPLACED, ()):
                (source.parent / name).unlink(missing_ok=True)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        try:
            self.check_metrics(metrics or {})
        except ConfigError as error:
            if not hasattr(self, "file_backend"):
                raise
            path = self.save_now(runner, runner.epoch, runner.iter)
            raise ConfigError(f"{error} -- {path} is saved; correct the name and go on with --resume") from None
        super().after_val_epoch(runner, metrics)

    def check_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Raises ConfigError where `save_best` names none of the `metrics`."""
        for name in self.save_best or ():
            if name != "auto" and name not in metrics:
                raise ConfigError(
                    f'default_hooks.checkpoint.save_best = "{name}" is not a metric{nearest(name, metrics)}'
                )

    def save_now(self, runner: Runner, epoch: int, iteration: int) -> Path:
        """Save the state after `iteration` iterations, whatever the interval; the file it is in."""
        name = f"iter_{iteration}.pth"
        if Path(self.last_ckpt or "").name != name:
            meta = dict(epoch=epoch, iter=iteration, validated=False, stopped=True)
            self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
            runner.save_checkpoint(self.out_dir, name, meta=meta, by_epoch=False)
            self._point(runner)
        return Path(str(self.last_ckpt))

    def _save_checkpoint(self, runner: Runner) -> None:
        epoch = runner.epoch + 1 if self.by_epoch else runner.epoch
        iteration = runner.iter if self.by_epoch else runner.iter + 1
        meta = dict(epoch=epoch, iter=iteration, validated=False)
        self._save_checkpoint_with_step(runner, epoch if self.by_epoch else iteration, meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        meta.setdefault("validated", True)  # the parent saves once more after a validation
        removed = self._to_remove(runner, step)
        with self._removals_last():
            name = self.filename_tmpl.format(step)
            self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
            runner.message_hub.update_info("last_ckpt", self.last_ckpt)
            runner.message_hub.update_info(REPLACED, [Path(path).name for path in removed])
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                **self.args,
            )
            self._point(runner)
            if is_main_process():
                for path in removed:
                    self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not hasattr(self, "file_backend"):
            return  # before any training: a validation alone saves nothing
        with self._removals_last():
            super()._save_best_checkpoint(runner, metrics)

    def _to_remove(self, runner: Runner, step: int) -> list[str]:
        """Files to remove after step `step` is saved; the list of kept steps is brought up to date."""
        old = (
            [str(self.stopped_at)]
            if self.stopped_at and self.stopped_at.name != self.filename_tmpl.format(step)
            else []
        )
        self.stopped_at = None
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
            if full:
                name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                old.append(self.file_backend.join_path(self.out_dir, name))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        return old

    @contextmanager
    def _removals_last(self) -> Iterator[None]:
        """Files the parent removes on the way are removed when all is saved."""
        if isinstance(self.file_backend, _Postponed):  # within another such context
            yield
            return
        backend = self.file_backend
        self.file_backend = _Postponed(backend)
        try:
            yield
            for path in dict.fromkeys(self.file_backend.waiting):
                if backend.isfile(path):
                    backend.remove(path)
        finally:
            self.file_backend = backend

    def _point(self, runner: Runner) -> None:
        with together():
            if is_main_process():
                atomic_text(str(self.last_ckpt), Path(runner.work_dir) / POINTER)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        kept = {k: v for k, v in load_checkpoint_file(ckpt_path).items() if k in (self.published_keys or ())}
        path = Path(ckpt_path).with_suffix(".published.pth")
        atomic_save(kept, path)
        digest = sha256(path.read_bytes()).hexdigest()[:8]
        path.replace(Path(ckpt_path).with_name(f"{Path(ckpt_path).stem}-{digest}.pth"))


class _Postponed:
    """A file backend that only notes what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.waiting: list[str] = []

    def remove(self, path: str) -> None:
        self.waiting.append(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
