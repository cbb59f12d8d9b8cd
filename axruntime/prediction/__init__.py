"""Frames per second of a compiled model on the vendor's boards, as a range.

work.py     what a frame asks of a board: three sums over the program
boards.py   what each board takes for it: three prices, calibrated on published figures, and how far such figures are from it (boards.yaml)
"""
