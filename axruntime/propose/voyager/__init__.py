"""Reading the network YAML files of the vendor's SDK (axelera-model-format 1.0.0). Importing this package loads nothing.

file.py       the file as plain values, within limits: anybody may have written it
values.py     single values of it, checked
pictures.py   the operators before the network as steps of pre-processing
results.py    the operators after it as steps of post-processing
network.py    the whole file as a proposal, with what could not be mapped
"""
