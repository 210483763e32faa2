"""An app on gunicorn that tells, one JSON line a request, what it was sent."""

import json
import os
import posixpath

FILES = os.environ["FILES"]
OUT = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND)


def application(environ, start_response):
    if environ.get("HTTP_X_STATIC"):
        return serve_file(environ, start_response)
    whole = True
    try:
        body = environ["wsgi.input"].read()
    except Exception:
        body, whole = b"", False
    length = environ.get("CONTENT_LENGTH")
    if length and len(body) < int(length):
        whole = False
    # WSGI has folded the names already: what an app sees.
    headers = [[name[5:].replace("_", "-").lower(), value] for name, value in environ.items() if name.startswith("HTTP_")]
    seen = {"method": environ["REQUEST_METHOD"], "target": environ["RAW_URI"], "headers": headers, "body": body.decode("latin-1"), "whole": whole}
    os.write(OUT, (json.dumps(seen) + "\n").encode())
    answer = ("you asked for " + environ["RAW_URI"]).encode("latin-1")
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer]


def serve_file(environ, start_response):
    # PATH_INFO is decoded by the server.
    name = posixpath.normpath("/" + environ["PATH_INFO"].lstrip("/"))
    try:
        with open(FILES + name, "rb") as file:
            content = file.read()
        start_response("200 OK", [("Content-Length", str(len(content)))])
        return [content]
    except (OSError, ValueError, UnicodeError):
        start_response("404 Not Found", [("Content-Length", "2")])
        return [b"no"]


