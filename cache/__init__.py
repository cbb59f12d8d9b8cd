"""A content-addressed cache of action results. Knows nothing of neural networks; imports nothing of its neighbours.

    from axforge.cache.config import open_store
    from axforge.cache.key import Action, Tree
    from axforge.cache.build import obtain

    store = open_store(start_dir)                       # AXFORGE_CACHE_*, [tool.axforge.cache]; an unusable cache is only a warning
    digest = store.files.digest(path)                   # FileDigest(size, xxh3, sha256); stat-validated, sha256 only when asked for
    digests = store.files.digests(paths)                # many at once (one index read a folder)
    tree = Tree.of({"img_0042.jpg": digest}, names_matter=False)   # many files as one input; names only for explanations
    action = Action(stage="quantize", stage_version=1, inputs={"checked.onnx": digest, "calibration": tree},
                    config={"scheme": "mse"}, sdk="axforge 0.1.0", libraries={"numpy": "2.4.0"}, outputs=("quantized.onnx",))
    action.key()                                        # 64 hex: sha256 of action.document()

    result = obtain(store, action, dest, run,           # restore, or run once among all processes and keep: the whole protocol
                    label="yolov5s", scope=workspace, force=False, recheck=make_action_again)
        # run(work: Path) -> str | None      writes exactly the outputs into `work`; returns its log or None
        # result.how: "restored" | "ran";  result.record;  result.seconds
    store.intact(result.record, dest)                   # by stat first, content if stat differs: is what was published still there?

Pieces, when `obtain` does not fit:
    store.lookup(action) -> Record | None               # local tier, then remote; checked; registers a lease against `clean`
    store.restore(record, dest)                         # verifies every byte; raises Damaged (quarantined: treat as a miss)
    store.put(action, produced, provenance) -> Record   # record.stored is False if the cache could not be written (warned)
    store.single_flight(key)                            # context manager; look up again inside
    cache.explain.why(store, action, label=, scope=) -> Explanation   # .against_last, .against_nearest, .lines(), .to_json()
    cache.history.last(store, scope, label, stage) -> document | None # the last build here, kept by obtain

Published files are read-only (0444) and may be links to the cache; replace them by rename, don't write into them.
All user-facing mistakes are cache.errors.CacheError(what, where=, fix=). `python -m axforge.cache --help` works without doit.
"""
