"""A page of notes from the SQLite database; a form adds one."""

import os
from contextlib import closing
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from database import connect

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Notes</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ max-width: 34rem; margin: 4rem auto; padding: 0 1rem; font: 1.0625rem/1.5 system-ui, sans-serif; }}
  input, button {{ font: inherit; padding: .3rem .6rem; }}
</style>
<h1>Notes</h1>
<ul>
{rows}
</ul>
<form method="post"><input name="text" aria-label="A note" required maxlength="200"> <button>Add</button></form>
</html>
"""
MAX_BYTES = 4096


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with closing(connect()) as database:
            notes = database.execute("SELECT * FROM note ORDER BY id").fetchall()
        rows = "\n".join(f"<li>{escape(', '.join(str(value) for value in tuple(note)[1:]))}</li>" for note in notes)
        body = PAGE.format(rows=rows).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > MAX_BYTES:
            self.send_error(413)
            return
        text = parse_qs(self.rfile.read(int(size)).decode(errors="replace")).get("text", [""])[0]
        if text:
            with closing(connect()) as database:
                database.execute("INSERT INTO note (text) VALUES (?)", (text,))
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The router's log has the requests."""


if __name__ == "__main__":
    connect().close()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "5000"))), Page).serve_forever()
