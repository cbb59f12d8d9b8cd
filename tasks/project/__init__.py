"""What a run is about; the lowest layer of the tasks. Light to import: nothing that computes.

command_line  what the user typed: tasks, models, options
settings      the project of this process: its folders, and where models and data are
zoo           which models there are
plan          what compiling one model means
engines       which engine runs a model
progress      reports of running stages, on their way to whoever draws them
doit_state    what doit remembers between runs
failures      mistakes of a user, as one sentence
checking      mistakes in a model, found before anything is compiled
project_file  what axforge.toml says of the project
task_help     --help behind a task
suggest       the nearest known name
"""
