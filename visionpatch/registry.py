"""The registries of the toolbox, children of MMEngine's, under the scope ``visionpatch``.

A name is looked up here first and in MMEngine's registry of the same kind after that, so that mmcv's, MMEngine's and
other packages' parts can be named in one config. Every root registry of MMEngine that a Runner asks has a child here.
"""

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = "visionpatch"


def _child(parent: Registry, *locations: str) -> Registry:
    modules = [f"{SCOPE}.{location}" for location in locations]
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=modules)


MODELS = _child(root.MODELS, "backbones", "necks", "heads", "losses", "models")
DATASETS = _child(root.DATASETS, "datasets")
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, "datasets")
TRANSFORMS = _child(root.TRANSFORMS, "datasets.transforms")
METRICS = _child(root.METRICS, "evaluation")
EVALUATOR = _child(root.EVALUATOR, "evaluation")
HOOKS = _child(root.HOOKS, "engine")
LOOPS = _child(root.LOOPS, "engine")
RUNNERS = _child(root.RUNNERS, "engine")
RUNNER_CONSTRUCTORS = _child(root.RUNNER_CONSTRUCTORS, "engine")
STRATEGIES = _child(root.STRATEGIES, "engine")
OPTIMIZERS = _child(root.OPTIMIZERS, "engine")
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, "engine")
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, "engine")
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, "engine")
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS, "engine")
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, "engine")
FUNCTIONS = _child(root.FUNCTIONS, "engine")
TASK_UTILS = _child(root.TASK_UTILS, "heads", "models")
INFERENCERS = _child(root.INFERENCERS, "apis")
VISUALIZERS = _child(root.VISUALIZERS, "visualization")
VISBACKENDS = _child(root.VISBACKENDS, "visualization")
