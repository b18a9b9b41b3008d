"""How the shipped checkpoint is made and judged: `python -m streamgen.pocket.training STAGE`. Not part of the wheel.

compose.py     songs and captions, from seeds            synth.py      songs to sound, libfluidsynth
corpus.py      rendered shards                           codec.py      training the codec
mel.py         spectra and losses                        quantizer.py  residual vector quantizer, trainable
captions.py    the text vocabulary                       language.py   the model and its lean forward
copy_heads.py  heads that copy a bar, built in           fitting.py    tokenising, training the language model
export.py      the folder `from_pretrained` reads        measures.py   what an ear would say, in numbers
defects.py     comb, detail, timing, deaths              judge.py      the table of the model card
endless.py     what goes wrong in ten minutes            strangers.py  fifty prompts as people type them
pictures.py    spectrograms as PNG                       curves.py     what training measures as it goes
pace.py        threads on a shared machine               stages.py     the commands
"""
