"""Verifies a request that was signed by RFC 9421: reads it as JSON from standard input, and prints what is under the signature."""

import base64
import json
import sys

from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
import requests

given = json.load(sys.stdin)


class Keys(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        return base64.b64decode(given["keys"][key_id])


request = requests.Request(given["method"], given["url"], headers=given["headers"], data=given["body"]).prepare()
verified = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys()).verify(request)
import hashlib  # noqa: E402

digest = base64.b64encode(hashlib.sha256((given["body"] or "").encode()).digest()).decode()
if given["body"]:
    assert given["headers"]["content-digest"] == f"sha-256=:{digest}:", "the digest is another body's"
print(json.dumps({"covered": sorted(verified[0].covered_components)}))
