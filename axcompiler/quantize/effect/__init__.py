"""Ranges chosen by what they do to the outputs of the network.

outputs     the error of the outputs against the float model, without a unit
fake_quant  the int8 model, computed for any ranges
search      which ranges: the best scheme for all tensors, and then what improves on it
"""
