"""A compiled model as one HTML page: where its layers run, when, in which memory, what limits them and what would help.

facts.py    what the page says, as plain data
layout.py   places for the layers of a graph in a drawing
page.py     the page around them; page.html and page.js draw them in the browser, with no library and no network
"""
