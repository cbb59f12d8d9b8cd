"""The second tier, shared by a team and CI.

connect   from a URL to the remote, and to the tier
tier      what is sent and fetched, and what is promised
base      what a remote must be able to do, and how it is registered for its scheme
schemes/  the remotes, one module for each kind
"""
