"""Verifies an exported audit log: docs/audit.md in 70 lines, sharing no code with the host.

usage: verify_audit.py EXPORT PUBLIC-KEY [HEADS]

Prints `whole CHAIN ENTRIES`, or `broken NUMBER WHY` and exits with 1.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def broken(seq, why):
    print("broken", seq, why)
    sys.exit(1)


def field(value):
    return len(value).to_bytes(8, "big") + value


def number(value):
    return value.to_bytes(8, "big", signed=True)


def entry_hash(chain, entry, before):
    hashed = b"clawhold-audit-v1" + before
    for value in [
        chain.encode(),
        number(entry["seq"]),
        number(entry["at_us"]),
        entry["actor"].encode(),
        entry["action"].encode(),
        entry["resource"].encode(),
        entry["outcome"].encode(),
        (entry["run"] or "").encode(),
        entry["trace"].encode(),
        base64.b64decode(entry["sealed"], validate=True),
    ]:
        hashed += field(value)
    return hashlib.sha256(hashed).digest()


def signed(head, key):
    message = b"clawhold-head-v1"
    for value in [head["chain"].encode(), number(head["seq"]), bytes.fromhex(head["hash"]), number(head["at_us"])]:
        message += field(value)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(head["signature"]), message)
    except InvalidSignature:
        return False
    return True


def main(export, key, heads=None):
    key = bytes.fromhex(key)
    lines = [json.loads(line) for line in open(export, encoding="utf-8")]
    begin, chain = lines[0], lines[0]["chain"]
    seq, last = begin["after"]["seq"], bytes.fromhex(begin["after"]["hash"])
    kept = [json.loads(line) for line in open(heads, encoding="utf-8")] if heads else []
    kept = {head["seq"]: head["hash"] for head in kept if head["chain"] == chain and signed(head, key)}
    kept = {number: hash for number, hash in kept.items() if number >= seq}
    if kept.get(seq, last.hex()) != last.hex():
        broken(seq, "rewritten: a head that was kept elsewhere has another hash")
    first, explained = seq, seq == 0
    for entry in lines[1:]:
        if "head" in entry:
            break
        if entry["seq"] != seq + 1:
            broken(min(entry["seq"], seq + 1), "missing, inserted or moved")
        if bytes.fromhex(entry["prev_hash"]) != last:
            broken(entry["seq"], "does not follow from the entry before")
        if bytes.fromhex(entry["hash"]) != entry_hash(chain, entry, last):
            broken(entry["seq"], "edited")
        seq, last = entry["seq"], bytes.fromhex(entry["hash"])
        explained |= entry["action"] == "audit.retain" and entry["resource"].endswith(f"-{first}")
        if kept.get(seq, entry["hash"]) != entry["hash"]:
            broken(seq, "rewritten: a head that was kept elsewhere has another hash")
    if "head" not in lines[-1]:
        broken(seq + 1, "the tail was cut")
    head = lines[-1]["head"]
    if head["chain"] != chain or not signed(head, key):
        broken(seq, "the head is not signed by this key")
    if head["seq"] != seq or bytes.fromhex(head["hash"]) != last:
        broken(min(head["seq"], seq) + 1, "the tail was cut, or something was added behind it")
    if not explained:
        broken(first, "missing with all before it, and no entry says that retention removed them")
    if kept and max(kept) > seq:
        broken(seq + 1, "the tail was cut: a head that was kept elsewhere comes later")
    print("whole", chain, seq - begin["after"]["seq"])


if __name__ == "__main__":
    main(*sys.argv[1:])
