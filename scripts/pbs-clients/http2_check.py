"""A backup and a restore with another implementation of HTTP/2 (the Python package h2)."""

import hashlib
import json
import os
import socket
import ssl
import struct
import zlib

import h2.config
import h2.connection
import h2.events

import lab

MAGIC = bytes.fromhex("42ab3807be8370a1")


def blob(content):
    return MAGIC + struct.pack("<I", zlib.crc32(content)) + content


class Session:
    """One of the two protocols, after the upgrade."""

    def __init__(self, kind, query):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection((lab.host, lab.port), timeout=60))
        leaf = hashlib.sha256(self.socket.getpeercert(binary_form=True)).hexdigest()
        assert leaf == lab.fingerprint.replace(":", "")
        name = "proxmox-backup-protocol-v1" if kind == "backup" else "proxmox-backup-reader-protocol-v1"
        self.socket.sendall(
            f"GET //api2/json/{kind}?{query} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: {name}\r\n"
            f"Authorization: PBSAPIToken {lab.user}!{lab.token_name}:{lab.secret}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert f"upgrade: {name}".encode() in head.lower(), head
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def call(self, method, path, body=b""):
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":scheme", "https"), (":authority", "localhost:8007"), (":path", path)]
        self.h2.send_headers(stream, headers, end_stream=not body)
        answer, status, ended = b"", None, False
        while not ended:
            while body:
                room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
                if room == 0:
                    break
                self.h2.send_data(stream, body[:room], end_stream=room == len(body))
                body = body[room:]
            self.flush()
            for event in self.h2.receive_data(self.socket.recv(1 << 18)):
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived) and event.stream_id == stream:
                    answer += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)) and event.stream_id == stream:
                    ended = True
        self.flush()
        assert status == 200, (path, status, answer)
        return answer

    def data(self, *arguments):
        return json.loads(self.call(*arguments))["data"]


TIME = 1_700_000_001
content = os.urandom(3_000_000)
pieces = [content[at : at + 1_000_000] for at in range(0, len(content), 1_000_000)]
digests = [hashlib.sha256(piece).digest() for piece in pieces]

backup = Session("backup", f"backup-id=py&backup-time={TIME}&backup-type=host&benchmark=false&debug=true&store=main")
assert backup.data("GET", "/previous_backup_time") is None
wid = backup.data("POST", "/dynamic_index?archive-name=stream.pxar.didx")
for piece, digest in zip(pieces, digests):
    body = blob(piece)
    target = f"/dynamic_chunk?wid={wid}&digest={digest.hex()}&size={len(piece)}&encoded-size={len(body)}"
    assert backup.data("POST", target, body) == digest.hex()
offsets = [at * 1_000_000 for at in range(len(pieces))]
names = [digest.hex() for digest in digests]
backup.data("PUT", "/dynamic_index", json.dumps({"wid": wid, "digest-list": names, "offset-list": offsets}).encode())
checksum = hashlib.sha256()
for at, digest in enumerate(digests, 1):
    checksum.update(struct.pack("<Q", at * 1_000_000) + digest)
close = f"/dynamic_close?wid={wid}&chunk-count={len(pieces)}&size={len(content)}&csum={checksum.hexdigest()}"
backup.data("POST", close)
manifest = {
    "backup-type": "host",
    "backup-id": "py",
    "backup-time": TIME,
    "files": [
        {
            "filename": "stream.pxar.didx",
            "crypt-mode": "none",
            "size": len(content),
            "csum": checksum.hexdigest(),
        }
    ],
    "unprotected": {},
    "signature": None,
}
body = blob(json.dumps(manifest).encode())
backup.data("POST", f"/blob?file-name=index.json.blob&encoded-size={len(body)}", body)
backup.data("POST", "/finish")
backup.socket.close()

reader = Session("reader", f"backup-id=py&backup-time={TIME}&backup-type=host&debug=true&store=main")
index = reader.call("GET", "/download?file-name=stream.pxar.didx")
assert index[:8] == bytes.fromhex("1c914ea519bab3cd") and index[32:64] == checksum.digest()
restored = b""
for at in range(4096, len(index), 40):
    digest = index[at + 8 : at + 40]
    chunk = reader.call("GET", f"/chunk?digest={digest.hex()}")
    assert struct.unpack("<I", chunk[8:12])[0] == zlib.crc32(chunk[12:])
    # Random bytes do not get shorter: they come back as they went.
    assert chunk[:8] == MAGIC, chunk[:8].hex()
    restored += chunk[12:]
assert restored == content
assert reader.call("GET", "/speedtest") == b"A" * (1 << 20)
