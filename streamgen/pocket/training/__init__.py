"""How the shipped checkpoint is made and judged: `python -m streamgen.pocket.training STAGE`. Not part of the wheel.

What is learned from:
    styles.py       what a style is made of          compose.py      songs, from seeds
    synth.py        songs to sound, libfluidsynth    corpus.py       rendered shards
    captions.py     captions, the text vocabulary    arranging.py    songs as tokens, bar by bar
    lessons.py      what the language model is shown, and what it is asked

The codec:
    codec.py        training it                      quantizer.py    residual vector quantizer, trainable
    mel.py          spectra and losses               fine_losses.py  … of what a mel band hides
    widening.py     more filters, the same tokens    lean_decoder.py its decoder, laid out for a CPU
    refining.py     training the decoder on          lean_encoder.py its encoder, in the same layout
    sharpening.py   training all of it on            code_names.py   its codes numbered as they were

The language model:
    language.py     the model, its lean forward      fitting.py      tokenising, training it
    copy_heads.py   heads that copy a bar, built in  bar_heads.py    … exactly one, two, three bars
    phase_units.py  units that know the sixteenth     biasing.py      what can be counted of codes

What comes of it:
    export.py       the folder `from_pretrained` reads               restart.py    going on from one
    playing.py      what it plays, and whether a new prompt is heard
    measures.py     what an ear would say, in numbers                defects.py    comb, detail, timing, deaths
    judge.py        the table of the model card                      endless.py    what goes wrong in ten minutes
    strangers.py    fifty prompts as people type them                pictures.py   spectrograms, curves
    defaults.py     what a listener gets who sets nothing            changing.py   the beat at a change of prompt
    levels.py           how loud styles are beside each other
    session_sound.py    what a session makes of it: loudness, width, parts
    outside.py      the stage of listeners that others trained      outside_ears.py    what they are

    device.py       what training runs on            __main__.py     the commands
"""
