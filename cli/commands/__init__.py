"""One module for each sub-command: `main(words, prog) -> exit status`, where words are what follows its name."""

#: Every sub-command, in the order of the help: the module of cli/commands that has its `main`, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "propose a model.json for an ONNX file and write it"),
    "check": ("check", "look for mistakes in a model before anything is compiled"),
    "fit": ("fit", "say whether a network fits, how fast it would be, and what would help, before it is calibrated"),
    "compile": ("compile", "compile models: ONNX to an int8 .axmodel"),
    "infer": ("infer", "run a model on pictures and videos; it is compiled first if needed"),
    "serve": ("serve", "answer HTTP requests with a model, and show a page to try it"),
    "run": ("run", "run a compiled folder, zip or .axmodel, wherever it was copied to"),
    "accuracy": ("accuracy", "measure what int8 costs: fp32 against compiled"),
    "bench": ("bench", "measure how fast a model runs on this CPU"),
    "report": ("report", "write an HTML page on a compiled model: where layers run, when, and what limits them"),
    "list": ("listing", "show the models there are, and which are compiled"),
    "zoo": ("zoo", "models that come along and published networks: list, show, fetch, check; add or import one of yours"),
    "info": ("info", "show one model: where it comes from, its pipeline, what is built"),
    "cache": ("cache", "look into the cache, or tidy it: inspect, explain, clean, verify, stats"),
    "completion": ("completion", "print a script that completes commands and models in a shell"),
}
