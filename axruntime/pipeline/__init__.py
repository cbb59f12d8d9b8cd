"""Pipelines: what `model.json` says, and how it is done. Importing this package loads nothing.

descriptor.py (light: no NumPy, ONNX, OpenCV)
    load_descriptor(path: Path, label_roots=()) -> Descriptor          the model.json at `path`, checked, labels read
    parse_descriptor(data: bytes, where: str) -> Descriptor            the same from bytes; labels stay as written
    find_model(name: str, roots: Sequence[Path]) -> Path               path of its model.json; suggests near names
    model_names(roots) -> list[str]                                    reads folders, no model.json
    stage_options(descriptor, stage: str) -> dict                      what model.json overrides of a stage's configuration
    preprocessing_fingerprint(descriptor) -> str                       canonical JSON of what feeds the network
    FEEDING_LIBRARIES                                                  distributions that decide the values of a feed
    Descriptor: name, model, description, task, source: Source | None (file | url + sha256/md5 | builder + reads),
        preprocessing, postprocessing, labels, label_names, calibration (path, count, samples), dataset, compile, license, reference
calibration.py (light until feeds are asked for)
    calibration_samples(descriptor, data_root: Path | None, count: int | None = None) -> list[CalibrationItem]
    CalibrationItem(name, path, variant): the sample is decided by the bytes of `path` and by `variant`, a string
    feeds(descriptor, items, inputs: Mapping[str, (shape, dtype)]) -> Iterator[dict[str, Array]]
        one dict a sample; what `inputs` an engine or an ONNX has: `Engine.inputs`, or `onnx_inputs(path)`
pipeline.py
    Pipeline(descriptor, engine).run(image) -> Result                  image: uint8 RGB [H, W, 3], or a dataset's own array
    .infer(prepared), .finish(outputs, prepared)                       its halves; `.engine_seconds` sums time in the engine
results.py
    Result = Classification | Detections | Segmentation | Picture | Tensors, each with as_json() of full precision
schema.py
    schema_text() -> str                                               JSON Schema of model.json

Every mistake a user can mend raises axcompiler.errors.AxforgeError.
"""
