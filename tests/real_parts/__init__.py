"""The parts that service and device tests play on: sound servers and a browser, of this machine, started anew."""
