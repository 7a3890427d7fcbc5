"""A server of HTTP/2 over TLS on loopback that sends back the fields and the body of each request, until standard input ends.

Prints a line of JSON: its origin, and a PEM file with its certificate, which it has signed itself. The arguments are a folder for that, and what
it answers a POST of /o/token/ instead.
"""

import asyncio
import datetime
import ipaddress
import json
import os
import ssl
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

folder, token = sys.argv[1], sys.argv[2].encode()


def certificate():
    """The file with the certificate, and the one that has the key as well."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public, both = os.path.join(folder, "h2.pem"), os.path.join(folder, "h2.key")
    for path, text in [(public, made), (both, made + private)]:
        with open(path, "wb") as file:
            file.write(text)
    return public, both


async def serve(reader, writer):
    """One connection."""
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    requests = {}
    while True:
        writer.write(connection.data_to_send())
        data = await reader.read(65536)
        if not data:
            return
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                requests[event.stream_id] = (dict(event.headers), b"")
            elif isinstance(event, DataReceived):
                fields, body = requests[event.stream_id]
                requests[event.stream_id] = (fields, body + event.data)
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                fields, body = requests.pop(event.stream_id)
                is_token = (fields[":method"], fields[":path"]) == ("POST", "/o/token/")
                lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
                answer = token if is_token else lines.encode() + body
                kind = "application/json" if is_token else "text/plain"
                connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", kind)])
                connection.send_data(event.stream_id, answer, end_stream=True)


async def main():
    """Serves until nobody is there to be served."""
    public, both = certificate()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(both)
    tls.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"origin": f"https://127.0.0.1:{port}", "roots": public}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


asyncio.run(main())
