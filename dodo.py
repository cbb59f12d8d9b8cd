"""The tasks of axforge, for plain `doit`. `doit` alone says what one can do; `doit list --all` shows every task.

compile   compile:MODEL, compile:MODEL:STAGE       ONNX to .axmodel, stage by stage, through the cache
infer     infer:MODEL:SOURCE                       run a model on pictures and videos
serve     serve:MODEL                              answer HTTP requests with a model
report    report:MODEL                             an HTML page: where layers run, when, and what limits them
fit       fit:MODEL                                does it fit, how fast would it be, what would help
accuracy  accuracy, accuracy:MODEL                 fp32 against compiled
cache     cache inspect|explain|clean|verify       what is kept, and why something ran
"""

from axforge.tasks import DOIT_CONFIG, task_accuracy, task_cache, task_compile, task_fit, task_infer, task_report, task_serve, task_usage

__all__ = [
    "DOIT_CONFIG",
    "task_accuracy",
    "task_cache",
    "task_compile",
    "task_fit",
    "task_infer",
    "task_report",
    "task_serve",
    "task_usage",
]
