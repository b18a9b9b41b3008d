"""How fast this machine is: the figures behind `bench` and `doctor`, each measured, none assumed.

speed.py       real streams, timed
reference.py   Meta's shapes with random weights, and the same job by transformers
"""
