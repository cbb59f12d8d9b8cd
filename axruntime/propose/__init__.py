"""Proposing a model.json for an ONNX model by looking at its graph, without running it. Importing this package loads nothing.

proposal.py
    Proposal(descriptor, choices, files, source): what would be written, and for each choice how sure it is, why, and what to check
    Choice(what, value, sure, why, check)
propose.py
    propose(path: Path, label_folders: Sequence[Path] = (), data_root: Path | None = None, name: str = "") -> Proposal
like.py
    propose_like(path, like: Descriptor, ...) -> Proposal              fed and read as a known model is
voyager/
    network.imported(path, ...) -> Proposal                            of a network YAML of the vendor's SDK
trial.py
    tried(proposal) -> Proposal                                        run on photos of known contents, fed in several ways
writing.py
    write(proposal, folder: Path, *, replace: bool = False) -> Path    <folder>/<name>/model.json and its labels; all of it or nothing
report.py
    table(proposal, width) -> str                                      for a terminal
graph.py, metadata.py
    what an ONNX file says: inputs, outputs with how the graph ends, arithmetic on the input; the notes of its maker
feeding.py, labels.py, unread.py
    the rules: pre-processing, class names, heads that are recognised and that no decoder reads

Which heads a decoder reads is said by the decoder itself: `Decoder.fits` in axruntime/pipeline/step.py.
`python -m axforge.axruntime.propose my.onnx` is the command. Every mistake that a user can correct raises AxforgeError.
"""
