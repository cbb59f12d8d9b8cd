"""Published networks as a table: networks.csv has a row for each, families.json how those of a family are fed and read.

A name that no folder of models has is looked up here, and the row becomes a model.json (table.py). The table is never read before that.
"""
