"""A stand-in for AWS on loopback that checks signatures: moto with one user, until standard input ends.

Prints a line of JSON: its origin and the user's key.
"""

import json
import os
import sys
import urllib.request

os.environ.update(AWS_ACCESS_KEY_ID="setup", AWS_SECRET_ACCESS_KEY="setup", AWS_DEFAULT_REGION="us-east-1")

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
origin = f"http://{host}:{port}"
iam = boto3.client("iam", endpoint_url=origin)
iam.create_user(UserName="skill")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}]}
iam.put_user_policy(UserName="skill", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="skill")["AccessKey"]
boto3.client("secretsmanager", endpoint_url=origin).create_secret(Name="greeting", SecretString="hello")
# From now on every request must be signed by somebody who may.
ask = urllib.request.Request(f"{origin}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
urllib.request.urlopen(ask).read()
key = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
print(json.dumps({"origin": origin, "key": key}), flush=True)
sys.stdin.read()
