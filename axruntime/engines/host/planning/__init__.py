"""From a graph to a plan: phases, arena offsets, parameter blocks and calls, and the check that every plan passes."""
