"""Plain HTTP on the WebSocket's port: the page, health, metrics, OSCQuery."""
