"""Stages of the compiler as clients of the cache.

code      the modules that decide what a stage writes, each with a digest
source    fetch: where a model's ONNX comes from
samples   calibrate: which samples ranges are measured on
inputs    everything that decides what a stage writes, described once
task      a stage as a doit task
"""
