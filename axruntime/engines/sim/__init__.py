"""The simulator: runs the program of an `.axmodel` instruction by instruction in modelled memories, and counts cycles.

engine.py      `SimEngine`: streams, semaphores, the host's side
machine.py     memories, and instructions made ready: views of the memories and a function
core.py        what the functions of instructions work with
units/         what each instruction does, by unit; all files there are found by themselves
cycles.py      when each instruction starts and ends
"""
