"""A source through a pipeline, with all steps at work at the same time. Importing this package loads nothing.

overlap.py
    Overlap(items, steps, room=ROOM)          threads with bounded queues between them; a context manager, iterated once, in order
flow.py
    Intake: opens a source; pictures that it leaves out come as flights in their place
    FrameFlow(pipeline, intake, strict=..., during=...)   an Overlap of Flight: decode, pre-process, infer, post-process
    Flight: frame, or what was skipped; result; seconds by step
timing.py
    StreamTiming: add(flight, write_seconds); steps() and delays() as tables
"""
