"""The door sign: what the other doors are, told to the network by multicast DNS. Only where the operator wants it."""
