"""Where int8 loses: every quantized tensor of a network, by what its rounding does to the outputs.

switchable  the int8 model, in which the rounding of each tensor can be switched off
measure     what each tensor contributes, and what would help
findings    the result: for a table, as JSON
page        the result as one HTML page
"""
