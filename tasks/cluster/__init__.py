"""Many machines: whole-model compiles and parts of measurements on the workers of a Dask cluster.

parcel    files travel through the cache, by content; with a job travel names and hashes only
client    the scheduler as seen from here: submit, wait, and what to say when it or its workers are gone
executor  which models of this run are compiled there, all sent at the first that is missing
accuracy  a data set in parts, merged exactly
messages  jobs and answers; jobs: how they are made; identity: what must be the same on all machines
worker    what the workers run
"""
