"""The clock of the AIPU: an event-level simulation of one frame; results do not depend on it.

transfers.py   what a copy costs each memory: runs of bytes, words touched
tasks.py       a program's instructions with their durations, demands on shared memories and what each waits for
frame.py       a frame that was played: tasks with their times
trace.py       a frame as a trace for Perfetto
events.py      the simulation: units that work in order, transfers that share the bandwidth of DDR and L2, barriers
"""
