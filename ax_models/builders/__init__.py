"""Builders: functions `build(data_root, out)` that make the ONNX of models which come with packages or as bare graphs.

data_root: the user's data folder, or None. out: the file to write; equal inputs give equal bytes.
"""
