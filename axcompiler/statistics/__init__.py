"""What calibration measures: the kinds of statistics, and the two artefacts that hold them. Knows nothing of networks or algorithms."""
