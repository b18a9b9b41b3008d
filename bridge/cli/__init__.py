"""The command line: one file a command, each standing alone.

    main.py        which command, which exit code
    render.py  play.py  serve.py  listen.py  models.py  devices.py  doctor.py  bench.py
    options.py     options made from the tables, checked before torch is loaded
    terminal.py    lines, tables and progress for people, on stderr; Ctrl-C as a flag
    terminal_door.py   typed lines as commands of a session

Rules: a command takes options apart and reports; what it does is app.py's, a session's, or the engine's.
"""
