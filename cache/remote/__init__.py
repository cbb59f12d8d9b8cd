"""The second tier, shared by a team and CI.

connect   the tier at a URL
tier      what is sent and fetched, and what is promised
base      what a remote must be able to do
http, folder, objects   remotes
"""
