"""How the shipped checkpoint is made and judged: `python -m streamgen.pocket.training STAGE`. Not part of the wheel.

compose.py     songs and captions, from seeds            synth.py      songs to sound, libfluidsynth
corpus.py      rendered shards                           codec.py      training the codec
mel.py         spectra and losses                        quantizer.py  residual vector quantizer, trainable
captions.py    the text vocabulary                       language.py   the model and its lean forward
copy_heads.py  heads that copy a bar, built in           fitting.py    tokenising, training the language model
export.py      the folder `from_pretrained` reads        measures.py   what an ear would say, in numbers
judge.py       the table of the model card               pictures.py   spectrograms as PNG
pace.py        threads on a shared machine               stages.py     the commands
"""
