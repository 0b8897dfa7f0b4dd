"""Stands between a suite and its broker for tests that drop connections by RabbitMQ's management API.

management.py PORT HTTP-PORT BROKER-PORT: passes AMQP on, and answers `GET /api/connections/` with the names that clients
gave, `DELETE /api/connections/NAME` by closing that one.
"""

import itertools
import json
import re
import socket
import struct
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, http_port, broker_port = map(int, sys.argv[1:])
numbers = itertools.count(1)
# Open connections: number -> (name that the client gave, its sockets).
connections = {}


def given_name(start_ok):
    """connection_name in the client's properties."""
    match = re.search(rb"\x0fconnection_nameS(....)", start_ok, re.DOTALL)
    if not match:
        return ""
    (length,) = struct.unpack(">I", match[1])
    return start_ok[match.end() : match.end() + length].decode()


def close(number):
    _, sockets = connections.pop(number, ("", ()))
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def pump(number, source, sink, seen):
    try:
        while data := source.recv(65536):
            if seen:
                seen(data)
            sink.sendall(data)
    except OSError:
        pass
    close(number)


def accept(client):
    number = next(numbers)
    broker = socket.create_connection(("127.0.0.1", broker_port))
    for each in (client, broker):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connections[number] = ("", (client, broker))

    def seen(data):
        if number in connections and (name := given_name(data)):
            connections[number] = (name, (client, broker))

    threading.Thread(target=pump, args=(number, client, broker, seen), daemon=True).start()
    threading.Thread(target=pump, args=(number, broker, client, None), daemon=True).start()


class Management(BaseHTTPRequestHandler):
    def do_GET(self):
        known = [{"name": str(n), "client_properties": {"connection_name": name}} for n, (name, _) in sorted(connections.items())]
        self.answer(200, json.dumps(known).encode())

    def do_DELETE(self):
        close(int(urllib.parse.unquote(self.path.rsplit("/", 1)[1])))
        self.answer(204, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", http_port), Management).serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", port)) as server:
    print("ready", flush=True)
    while True:
        accept(server.accept()[0])
