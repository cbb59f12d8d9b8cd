"""Techniques of quantization, one a file. Each is a pure function of the float model and the statistics of calibration."""
