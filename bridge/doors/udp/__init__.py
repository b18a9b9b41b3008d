"""Uncompressed sound by UDP to whom the operator names: ReaStream's packets, and RTP with 24 bits.

packets.py     both formats, and the SDP that describes the second; sans-I/O
door.py        sent when it is due
"""
