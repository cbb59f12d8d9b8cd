"""Sources of pictures and sinks for results. Importing this package loads nothing.

opening.py
    open_source(text, *, frames=None, dataset=None) -> FrameSource
        text: a picture, a folder, a glob, a video, or a scheme such as `sample:NAME`. frames: stop after that many
        (fakevideo and cameras never end by themselves). dataset: opens the model's dataset, given the split.
    open_sink(path, frames, header) -> Sink                            chosen by the suffix of `path`
source.py
    FrameSource: iterable of Frame; name; total: int | None (frames to come, where known); video: bool; fps: float | None
    Frame(index, name, image): image is uint8 RGB [H, W, 3] (or the array of a dataset that holds no pictures)
    register: the decorator that makes a kind of source known by its scheme or by suffixes; one module in sources/ each
sink.py
    Sink(target): add(frame, result); a context manager; `written`; report
    register: the decorator that makes a kind of sink known by the suffixes it writes; one module in sinks/ each
samples.py (light)
    sample_path(name) -> Path, sample_names() -> list[str]             photos that installed packages ship
images.py
    read_image(path) -> uint8 RGB [H, W, 3]; write_image(path, image)  write is atomic
sinks/json_document.py
    write_json(path, document)                                         atomic, full precision
sinks/videos.py
    VideoWriter(path, fps): write(image), close(), abandon()           the file appears when it is complete

Every mistake that a user can correct raises axcompiler.errors.AxforgeError.
"""
