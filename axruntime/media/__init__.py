"""Sources of pictures and sinks for results. Importing this package loads nothing.

opening.py
    open_source(text, *, frames=None, dataset=None, skip=None) -> FrameSource
        text: a picture, a folder, a glob, a video, or a scheme such as `sample:NAME`. frames: stop after that many
        (fakevideo and cameras never end by themselves). dataset: opens the model's dataset, given the split. skip: is called with each
        of many pictures that cannot be read.
    open_sink(path, frames, header) -> Sink                            chosen by the suffix of `path`
source.py
    FrameSource: iterable of Frame; name; total: int | None (frames to come, where known); video: bool; fps: float | None
    Frame(index, name, image): image is uint8 RGB [H, W, 3] (or the array of a dataset that holds no pictures)
    register: the decorator that makes a kind of source known by its scheme or by suffixes; one module in sources/ each
sink.py
    Sink(target): add(frame, result); a context manager that leaves whole files however it is left; `count`; `written`; report
    register: the decorator that makes a kind of sink known by the suffixes it writes; one module in sinks/ each
recording.py
    result_files(asked, folder, source, header) -> paths               names that overwrite no other run, and no file of the user's
    Recording(files, source, header): add, skip, report                all sinks of a run; Ctrl-C and SIGTERM end it with `Stopped`
samples.py (light)
    sample_path(name) -> Path, sample_names() -> list[str]             photos that installed packages ship
images.py
    read_image(path) -> uint8 RGB [H, W, 3]; write_image(path, image)  write is atomic
sinks/json_document.py
    write_json(path, document)                                         atomic, full precision
video_writer.py
    VideoWriter(path, fps): write(image), close(), abandon()           H.264 with PyAV; the file gets its name at `close`

Every mistake that a user can correct raises axcompiler.errors.AxforgeError.
"""
