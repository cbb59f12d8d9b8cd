"""Stages of the compiler as clients of the cache.

code      the modules that decide what a stage writes, each with a digest
source    fetch: where a model's ONNX comes from
samples   calibrate: which samples ranges are measured on
inputs    everything that decides what a stage writes, described once
executor  who runs a stage: this process, or a cluster's
execution a stage's result, restored or made
task      a stage as a doit task
"""
