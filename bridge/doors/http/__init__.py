"""Plain HTTP on the WebSocket's port.

site.py        the page, health, metrics: answers from memory
oscquery.py    the OSC namespace as JSON, and its changes. No I/O
"""
