"""Datasets and metrics. Importing this package loads nothing.

datasets.py
    open_dataset(descriptor, data_root: Path | None, split: str | None = None) -> Dataset     what model.json names as `dataset`
    Dataset: name, type, truth, len(), iterable of Sample(name, image, truth)
evaluate.py
    evaluate(pipeline, dataset, *, limit=None, progress=silent) -> AccuracyReport
        limit: measure on that many samples, spread evenly. progress(done, total, note) as in axcompiler.stages.
        Detection thresholds are those of the descriptor's `dataset`, not of its pipeline.
    AccuracyReport(task, dataset, images, metrics: dict[str, float] in per cent, primary: str, engine_seconds, seconds)
        .images_per_second: of the engine alone; .value: of the primary metric; .as_json()

confidence.py
    Spread.of(metric): interval(name); loss_from(reference, name)      AccuracyReport.spread: how far the figures can be trusted
metrics.py
    metric_for(kind of result, truth) -> Metric                        refuses a dataset that cannot judge the pipeline
    psnr(a, b, peak=1.0) -> float in dB

Metrics: top-1, top-5 (classification); mAP50-95, mAP50 (detection, COCO rules); mIoU, mIoU of objects, pixel accuracy (segmentation).
Every mistake that a user can correct raises axcompiler.errors.AxforgeError.
"""
