"""Sources of pictures and sinks for results. Importing this package loads nothing.

sources.py
    open_source(text, *, descriptor=None, data_root=None, frames=None) -> Source
        text: a picture, a folder, a glob, a video file, `sample:NAME`, `fakevideo:WxH`, `dataset` or `dataset:SPLIT`,
        `usb:N`, `rtsp://…`, `http(s)://…`. frames: stop after that many (fakevideo and cameras never end by themselves).
    Source: iterable of Frame; name; total: int | None (frames to come, where known); video: bool; fps: float | None
    Frame(index, name, image): image is uint8 RGB [H, W, 3] (or the array of a dataset that holds no pictures)
samples.py (light)
    sample_path(name) -> Path, sample_names() -> list[str]             photos that installed packages ship
images.py
    read_image(path) -> uint8 RGB [H, W, 3]; write_image(path, image)  write is atomic
draw.py
    annotate(image, result) -> uint8 RGB                               boxes with labels, classes, overlay, or the new picture
sinks.py
    write_json(path, document)                                         atomic, full precision
    result_document(frame, result) -> dict                             {"frame", "source", "width", "height", "result"}
    VideoWriter(path, fps): write(image), close(); a context manager; the file appears when it is complete

Every mistake a user can mend raises axcompiler.errors.AxforgeError.
"""
