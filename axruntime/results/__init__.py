"""The kinds of result, one module each. Importing this package loads nothing.

result.py
    PipelineResult: what every kind says of itself: `as_json`, `draw`, `table`, `seen`, `brief`, `mapped`, and the `metric` that judges it
    Metric: counts how good results are; ResultTable, Column: rows of full precision with the format that a screen shows
    label(names, class_id) -> str
drawing.py
    boxes_on, panel_below, class_colour, ink_on, ground_of: what the kinds draw with
classification.py, detections.py, segmentation.py, picture.py, tensors.py, embedding.py, text.py
    one kind each, with the metric that judges it
"""
