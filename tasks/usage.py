"""What one can do: printed by `doit` alone."""

from axforge.tasks.project.doit_state import TaskDict

TEXT = """\
axforge: from ONNX to an int8 .axmodel for a (virtual) Metis AIPU, and running it

  doit compile:MODEL                     compile a model                   doit compile:efficientnet_lite0-imagenet
  doit infer:MODEL:SOURCE                compile if needed, and run it     doit infer:efficientnet_lite0-imagenet:sample:grace_hopper
  doit serve:MODEL                       answer HTTP requests with it, and show a page to try it
  doit accuracy[:MODEL]                  fp32 against compiled, with a verdict
  doit fit:MODEL                         does it fit, how fast would it be, what would help: in seconds
  doit report:MODEL                      an HTML page: where its layers run, when, and what limits them
  doit cache inspect|explain|clean|verify   what is kept, and why something ran

  doit list --all                        every task: models and their stages
  doit info compile:MODEL:quantize       one task: what it reads and writes, and whether it is up to date
  doit -n 4 compile:MODEL compile:OTHER  several at once; with cluster=tcp://HOST:8786 on the workers of a Dask cluster
  doit clean compile:MODEL               remove what was built (the cache keeps it)

Options follow a task: doit compile:MODEL --aipu-cores 4 --explain; or as variables: doit compile:MODEL cores=4 onnx=PATH
SOURCE: a picture, folder or video, sample:NAME, fakevideo:640x480, or an address.
AXFORGE_DATA_ROOT: folder with models and data sets that descriptors name. AXFORGE_BUILD_ROOT: where results go (build/).
AXFORGE_MODELS: folders with models of your own, each in a folder with a model.json.
"""


def task_usage() -> TaskDict:
    """what one can do here"""
    return {"actions": [say], "verbosity": 2, "uptodate": [False]}


def say() -> None:
    """Print what one can do here."""
    print(TEXT, end="")
