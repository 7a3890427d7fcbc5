"""A stand-in for AWS on loopback that checks signatures: moto with one user and one role, until standard input ends.

Prints a line of JSON: its origin, the user's key, and a temporary key of the role, which is good with its session token alone. `GET /seen` has
the names of the fields that were signed, for each signed request that came.
"""

import json
import os
import sys
import urllib.request

os.environ.update(AWS_ACCESS_KEY_ID="setup", AWS_SECRET_ACCESS_KEY="setup", AWS_DEFAULT_REGION="us-east-1")

import boto3  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

signed = []
dispatch = DomainDispatcherApplication.__call__


def noted(self, environ, start_response):
    """Notes which fields are signed: of one that is not, a change would go unnoticed, and moto does not ask for more."""
    if environ["PATH_INFO"] == "/seen":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(signed).encode()]
    _, found, rest = environ.get("HTTP_AUTHORIZATION", "").partition("SignedHeaders=")
    if found:
        signed.append(rest.split(",")[0].split(";"))
    return dispatch(self, environ, start_response)


DomainDispatcherApplication.__call__ = noted

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
origin = f"http://{host}:{port}"
iam = boto3.client("iam", endpoint_url=origin)
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}]}
iam.create_user(UserName="skill")
iam.put_user_policy(UserName="skill", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="skill")["AccessKey"]
trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}
role = iam.create_role(RoleName="skill", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
iam.put_role_policy(RoleName="skill", PolicyName="all", PolicyDocument=json.dumps(policy))
sts = boto3.client("sts", endpoint_url=origin)
temporary = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="skill")["Credentials"]
boto3.client("secretsmanager", endpoint_url=origin).create_secret(Name="greeting", SecretString="hello")
# From now on every request must be signed by somebody who may.
ask = urllib.request.Request(f"{origin}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
urllib.request.urlopen(ask).read()
signed.clear()
key = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
temporary = {
    "access_key_id": temporary["AccessKeyId"],
    "secret_access_key": temporary["SecretAccessKey"],
    "session_token": temporary["SessionToken"],
}
print(json.dumps({"origin": origin, "key": key, "temporary": temporary}), flush=True)
sys.stdin.read()
