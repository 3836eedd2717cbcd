"""Checks that boto3 logs in by itself; scripts/clients.sh runs them. Its environment has no token."""

import os
import sys
import time

import boto3

how = os.environ["LOGIN_BY"]
failed = False


def check(name, good, detail=""):
    global failed
    failed = failed or not good
    print(("ok   " if good else "FAIL ") + f" boto3: {name} by {how}" + ("" if good else f": {detail}"))


session = boto3.Session()
arn = session.client("sts").get_caller_identity()["Arn"]
check("get_caller_identity", arn.startswith("arn:aws:sts::000000000000:assumed-role/payments/"), arn)
kms = session.client("kms")
mac = None
end = time.monotonic() + float(os.environ["LOGIN_SECONDS"])
calls = 0
while time.monotonic() < end:
    made = kms.generate_mac(KeyId="payments/tokens", Message=b"pay 10 EUR", MacAlgorithm="HMAC_SHA_256")["Mac"]
    mac = mac or made
    calls += made == mac
    time.sleep(0.5)
check("generate_mac across a refresh", calls > 1, calls)
try:
    kms.list_keys()
    check("AccessDeniedException", False, "it succeeded")
except kms.exceptions.ClientError as error:
    check("AccessDeniedException", f"User: {arn} is not authorized" in str(error), error)
sys.exit(failed)
