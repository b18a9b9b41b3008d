"""The doors of streamgen: command line, files and the sound card.

Rules: imports streamgen's public names only; streamgen never imports this package.

    cli.py           which command, which exit code
    render.py  play.py  models.py  devices.py  doctor.py  bench.py     one command each; none imports another
    parameters.py    the table of musical parameters: range, default, unit
    options.py       options that several commands share, checked before torch is loaded
    terminal.py      lines and progress bars for people, on stderr
    interrupts.py    Ctrl-C and SIGTERM as a flag that loops look at
    audio_in.py      audio prompts and melodies from files
    audio_out/       ring buffer, sound card, file writer, resampling
"""
