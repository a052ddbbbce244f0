"""The HTTP edge: the Connect protocol over HTTP/1.1, JSON lines, and the page. A client of the gateway."""
