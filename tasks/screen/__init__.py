"""What a user sees while tasks run.

reporter  doit's reporter: a line for each event, or a bar for each model
bars      the bars
display   tables and counters
"""
