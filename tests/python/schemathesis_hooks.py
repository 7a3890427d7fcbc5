"""What the tool that fuzzes the API is told of it: how a component looks from outside."""

import schemathesis
from hypothesis import strategies

HEAD = b"\0asm\x0d\0\1\0"

schemathesis.openapi.media_type("application/wasm", strategies.binary(max_size=4096).map(lambda rest: HEAD + rest))
