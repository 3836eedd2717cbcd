"""Checks of boto3; scripts/clients.sh runs them. The environment has the rest."""

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import tempfile
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

FREE = "00000000-0000-4000-8000-000000000000"
failed = False


def report(good, name, detail=""):
    global failed
    failed = failed or not good
    print(("ok   " if good else "FAIL ") + " boto3: " + name + ("" if good else ": " + str(detail)))


def check(name, got, want=True):
    report(got == want, name, f"{got!r} is not {want!r}")


def refused(client, code, message, operation, **arguments):
    """The operation must raise the client's own exception of this code."""
    name = f"{code} by {operation}"
    expected = getattr(client.exceptions, code, ClientError)
    try:
        getattr(client, operation)(**arguments)
    except expected as error:
        got = error.response["Error"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        want = {"Code": code, "Message": message}
        report(got == want and status == 400, name, (got, status))
    except Exception as error:  # another exception than the client's own
        report(False, name, repr(error))
    else:
        report(False, name, "it succeeded")


def wrap(public_key, material):
    """Wraps key material with openssl, as KMS's guide shows it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in ("public.der", public_key), ("material", material):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        subprocess.run(
            "openssl pkeyutl -encrypt -pubin -keyform DER -inkey public.der -in material -out wrapped "
            "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256",
            shell=True, check=True, cwd=folder,
        )
        with open(os.path.join(folder, "wrapped"), "rb") as file:
            return file.read()


def client_for(token=None, **config):
    session = boto3.Session(aws_session_token=token, aws_access_key_id="vault", aws_secret_access_key="vault") if token else boto3.Session()
    return session.client("kms", config=Config(retries={"max_attempts": 0}, **config))


def main():
    kms = client_for()
    raw = client_for(parameter_validation=False)  # lets wrong parameters through to the endpoint
    base = "arn:aws:kms:us-east-1:000000000000:"

    for bits in 224, 256, 384, 512:
        spec, algorithm = f"HMAC_{bits}", f"HMAC_SHA_{bits}"
        metadata = kms.create_key(KeySpec=spec, KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
        check(f"create_key {spec}", (metadata["KeySpec"], metadata["MacAlgorithms"], metadata["KeyState"]), (spec, [algorithm], "Enabled"))
        arguments = {"KeyId": metadata["KeyId"], "Message": b"pay 10 EUR", "MacAlgorithm": algorithm}
        answer = kms.generate_mac(**arguments)
        check(f"generate_mac {algorithm}", (len(answer["Mac"]), answer["KeyId"]), (bits // 8, metadata["Arn"]))
        check(f"verify_mac {algorithm}", kms.verify_mac(Mac=answer["Mac"], **arguments)["MacValid"])

    metadata = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC", Tags=[{"TagKey": "a", "TagValue": "1"}])["KeyMetadata"]
    key, arn = metadata["KeyId"], metadata["Arn"]
    arguments = {"KeyId": key, "Message": b"pay 10 EUR", "MacAlgorithm": "HMAC_SHA_256"}
    mac = kms.generate_mac(**arguments)["Mac"]
    check("describe_key", kms.describe_key(KeyId=arn)["KeyMetadata"], metadata)
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    check("list_keys", sum(entry["KeyId"] == key for page in pages for entry in page["Keys"]), 1)

    refused(kms, "KMSInvalidMacException", "", "verify_mac", Mac=b"wrong", **arguments)
    refused(kms, "InvalidKeyUsageException", "Algorithm HMAC_SHA_384 is incompatible with key spec HMAC_256.", "generate_mac", **{**arguments, "MacAlgorithm": "HMAC_SHA_384"})
    refused(kms, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.", "generate_mac", DryRun=True, **arguments)
    refused(kms, "InvalidGrantTokenException", "The grant token is not valid.", "generate_mac", GrantTokens=["nonsense"], **arguments)
    refused(kms, "NotFoundException", f"Key '{base}key/{FREE}' does not exist", "generate_mac", **{**arguments, "KeyId": FREE})
    refused(kms, "NotFoundException", "Invalid keyId 'nonsense'", "describe_key", KeyId="nonsense")
    refused(kms, "NotFoundException", "Invalid arn eu-west-1", "describe_key", KeyId=arn.replace("us-east-1", "eu-west-1"))
    refused(raw, "ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1", "generate_mac", **{**arguments, "Message": b""})
    refused(raw, "SerializationException", "A member of the request has the wrong JSON type: expected a string.", "describe_key", KeyId=7)

    kms.create_alias(AliasName="alias/boto3", TargetKeyId=key)
    check("generate_mac by alias", kms.generate_mac(**{**arguments, "KeyId": "alias/boto3"})["Mac"], mac)
    check("list_aliases", [alias["TargetKeyId"] for alias in kms.list_aliases(KeyId=key)["Aliases"]], [key])
    refused(kms, "AlreadyExistsException", f"An alias with the name {base}alias/boto3 already exists", "create_alias", AliasName="alias/boto3", TargetKeyId=key)
    refused(kms, "InvalidArnException", "Key Aliases are not supported for this operation.", "disable_key", KeyId="alias/boto3")
    other = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
    kms.update_alias(AliasName="alias/boto3", TargetKeyId=other["Arn"])
    check("update_alias", kms.describe_key(KeyId="alias/boto3")["KeyMetadata"]["KeyId"], other["KeyId"])
    kms.delete_alias(AliasName="alias/boto3")
    refused(kms, "NotFoundException", f"Alias {base}alias/boto3 is not found.", "generate_mac", **{**arguments, "KeyId": "alias/boto3"})

    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "b", "TagValue": "2"}])
    kms.untag_resource(KeyId=key, TagKeys=["a"])
    check("list_resource_tags", kms.list_resource_tags(KeyId=key)["Tags"], [{"TagKey": "b", "TagValue": "2"}])
    refused(kms, "TagException", "Duplicate tag keys", "tag_resource", KeyId=key, Tags=[{"TagKey": "c", "TagValue": ""}] * 2)

    kms.disable_key(KeyId=key)
    refused(kms, "DisabledException", f"{arn} is disabled.", "generate_mac", **arguments)
    kms.enable_key(KeyId=key)
    answer = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    check("schedule_key_deletion", (answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]), (arn, "PendingDeletion", 7))
    refused(kms, "KMSInvalidStateException", f"{arn} is pending deletion.", "generate_mac", **arguments)
    check("cancel_key_deletion", kms.cancel_key_deletion(KeyId=key)["KeyId"], arn)
    refused(raw, "ValidationException", "PendingWindowInDays must be between 7 and 30", "schedule_key_deletion", KeyId=key, PendingWindowInDays=31)

    external = kms.create_key(KeySpec="HMAC_512", KeyUsage="GENERATE_VERIFY_MAC", Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    parameters = kms.get_parameters_for_import(KeyId=external, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
    material = os.urandom(64)
    token = {"KeyId": external, "ImportToken": parameters["ImportToken"]}
    kms.import_key_material(EncryptedKeyMaterial=wrap(parameters["PublicKey"], material), ValidTo=time.time() + 3600, **token)
    check("MAC under imported material", kms.generate_mac(KeyId=external, Message=b"x", MacAlgorithm="HMAC_SHA_512")["Mac"], hmac.new(material, b"x", hashlib.sha512).digest())
    refused(kms, "InvalidCiphertextException", "", "import_key_material", EncryptedKeyMaterial=b"x" * 256, ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE", **token)
    kms.delete_imported_key_material(KeyId=external)
    check("delete_imported_key_material", kms.describe_key(KeyId=external)["KeyMetadata"]["KeyState"], "PendingImport")

    check("get_key_rotation_status", kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"], False)
    refused(kms, "UnsupportedOperationException", "", "get_public_key", KeyId=other["KeyId"])
    check("generate_random", len(kms.generate_random(NumberOfBytes=32)["Plaintext"]), 32)
    user = "arn:aws:iam::000000000000:user/vault"
    refused(client_for(os.environ["NOBODY_TOKEN"]), "AccessDeniedException", f"User: {user} is not authorized to perform: kms:DescribeKey on resource: {arn} because no identity-based policy allows the kms:DescribeKey action", "describe_key", KeyId=key)
    refused(client_for("nonsense"), "UnrecognizedClientException", "The security token included in the request is invalid.", "list_keys")
    check("base64 of a MAC", len(base64.b64encode(mac)), 44)


print("      boto3:", boto3.__version__)
main()
sys.exit(failed)
