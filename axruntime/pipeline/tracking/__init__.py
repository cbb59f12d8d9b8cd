"""Multi-object tracking: boxes of one frame after another get the numbers of the objects that they show. Importing this loads nothing.

association.py   the best one-to-one pairing of tracks with boxes
kalman.py        the motion of all tracks at once: a Kalman filter of constant velocity
tracks.py        Tracker, what an algorithm is: `update(boxes, scores, class_ids) -> ids`; TrackTable, its tracks as columns
bytetrack.py, sort.py, ocsort.py    the algorithms
"""
