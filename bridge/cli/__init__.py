"""The command line: main.py chooses the command, one file each; options.py and terminal.py are shared."""
