"""The command `axforge`: a sub-command is a module of cli/commands, thin over tasks and runtime. Importing this loads nothing.

main.py
    main(argv) -> int: finds the sub-command, and answers every mistake with a sentence
command.py
    what a sub-command may use: its parser, the options that several take
tasks_runner.py
    runs doit's tasks in the user's project
"""
