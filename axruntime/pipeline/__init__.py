"""Pipelines: what `model.json` says, and how it is done. Importing this package loads nothing.

models.py (light: no NumPy, ONNX, OpenCV)
    find_model(name: str, roots: Sequence[Path]) -> Path               path of its model.json; suggests near names
    model_names(roots) -> list[str]                                    reads folders, no model.json
descriptor.py (light)
    load_descriptor(path: Path, label_roots=()) -> Descriptor          the model.json at `path`, checked, labels read
    parse_descriptor(data: bytes, where: str) -> Descriptor            the same from bytes; labels stay as written
    stage_options(descriptor, stage: str) -> dict                      what model.json overrides of a stage's configuration
    preprocessing_fingerprint(descriptor) -> str                       canonical JSON of what feeds the network
    FEEDING_LIBRARIES                                                  distributions that decide the values of a feed
    Descriptor: name, model, description, task, source: Source | None (file | url + sha256/md5 | builder + reads),
        preprocessing, postprocessing, labels, label_names, calibration (path, count, samples), dataset, compile, license, reference
step.py (light)
    PreStep, PostStep, Decoder, BoxDecoder: what a step derives from; register: the decorator that makes it known
preprocessing/, postprocessing/ (light)
    one module for each step, found by steps.py; each is callable:
    `DecodeX(parameters)(outputs, context) -> Candidates | PipelineResult`
feeding.py
    CodeFeeder(steps, scale, zero_point)(image) -> Prepared            int8 codes at once, the same as of `prepare` and the engine
codes.py
    Codes(values, scale, zero_point): an output as int8, which a Decoder with `reads_codes` takes; .real() as float32
candidates.py
    Candidates(boxes, scores, class_ids); DecoderContext(prepared, labels, memory) with .detections(candidates) -> Detections
    StreamMemory(): what steps keep from one frame of a stream to the next
regions.py
    upright(picture, box, margin), straightened(picture, corners, margin) -> PictureRegion | None   for a model that looks at a part
chain.py
    prepare(steps, image) -> Prepared; finish(steps, outputs, context) -> PipelineResult
    kind_of_result(steps) -> type[PipelineResult]
calibration.py (light until feeds are asked for)
    calibration_samples(descriptor, data_root: Path | None, count: int | None = None) -> list[CalibrationItem]
    CalibrationItem(name, path, variant): the sample is decided by the bytes of `path` and by `variant`, a string
    feeds(descriptor, items, inputs: Mapping[str, (shape, dtype)]) -> Iterator[dict[str, Array]]
        one dict for each sample; what `inputs` an engine or an ONNX has: `Engine.inputs`, or `onnx_inputs(path)`
pipeline.py
    Pipeline(descriptor, engine, memory=None, models={}).run(image) -> PipelineResult   image: uint8 RGB [H, W, 3], or a dataset's own array
    .prepare(image), .infer(prepared), .finish(outputs, prepared)      its parts; `.engine_seconds` sums time in the engine
tracking/
    ByteTrack, OcSort, Sort: update(boxes, scores, class_ids) -> ids
documents.py
    schema_text() -> str, page_text(page) -> str                       JSON Schema of model.json; docs/models.md with its tables

Every mistake that a user can correct raises axcompiler.errors.AxforgeError.
"""
