"""A compiled model as it is handed to another machine: a folder, one zip of it, or a bare `.axmodel`. Importing this loads nothing.

opening.py
    open_deployed(path) -> Deployed(where, model, descriptor, manifest)     everything in it verified
files.py
    open_files(path) -> ModelFiles                                          the files of a folder or a zip, read in place, never extracted
seal.py (light)
    published_json(source, labels, files) -> bytes                          model.json as it is published: labels inside, and digests
    broken(document, descriptor, digests) -> str                            the first file that is not as it was published
bundle.py
    write_bundle(folder, target) -> Path                                    the same folder gives the same bytes

What a deployed model needs to run is in these files and in a few packages (docs/deploy.md): no ONNX, no data, no doit.
"""
