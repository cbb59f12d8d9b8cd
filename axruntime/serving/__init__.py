"""A model as an HTTP service: the Open Inference Protocol (KServe v2), a page to try it, metrics. Importing this package loads nothing.

server.py
    serve(model, ServingOptions, out)                      until Ctrl-C or SIGTERM; what is under way is answered first
app.py
    application(model, limits) -> Starlette                the routes
served.py
    Served: what a model name stands for; TensorService: arrays in and out; PictureService: pictures in, results out
batching.py
    Batcher(engine, limits): frames of all requests take turns in the engine, several side by side
protocol.py
    read_request, write_response                           messages with JSON or binary tensors
limits.py
    ServingLimits; Refused(status, sentence)               what a client gets instead of an answer
metrics.py
    ServingMetrics                                         for Prometheus

Every mistake of a client raises Refused, and is answered with its status and {"error": sentence}.
"""
