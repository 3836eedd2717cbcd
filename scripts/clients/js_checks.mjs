// Checks of AWS's SDK for JavaScript, version 3; scripts/clients.sh runs them.
import { createHmac, constants, createPublicKey, publicEncrypt, randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import * as sdk from "@aws-sdk/client-kms";

const { version } = createRequire(import.meta.url)("@aws-sdk/client-kms/package.json");
const settings = { region: "us-east-1", endpoint: process.env.AWS_ENDPOINT_URL_KMS, maxAttempts: 1 };
const kms = new sdk.KMSClient(settings);
const withToken = (sessionToken) =>
  new sdk.KMSClient({ ...settings, credentials: { accessKeyId: "vault", secretAccessKey: "vault", sessionToken } });

let failed = false;
function report(good, name, detail) {
  failed ||= !good;
  console.log(`${good ? "ok   " : "FAIL "} js: ${name}${good ? "" : `: ${detail}`}`);
}
const call = (operation, input, client = kms) => client.send(new sdk[`${operation}Command`](input));
const same = (name, got, want) => report(JSON.stringify(got) === JSON.stringify(want), name, `${JSON.stringify(got)} is not ${JSON.stringify(want)}`);

// The operation must throw the SDK's own class of this name.
async function refused(exception, message, operation, input, client = kms) {
  const name = `${exception} by ${operation}`;
  try {
    await call(operation, input, client);
    report(false, name, "it succeeded");
  } catch (error) {
    const own = sdk[exception];
    const good = error.name === exception && error.$metadata.httpStatusCode === 400 && (!own || error instanceof own);
    report(good && (message === undefined || error.message === message), name, `${error.name}: ${error.message}`);
  }
}

console.log("      js: @aws-sdk/client-kms", version);
const text = new TextEncoder();
const Message = text.encode("pay 10 EUR");
const MacAlgorithm = "HMAC_SHA_256";

const { KeyMetadata: key } = await call("CreateKey", { KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC", Description: "js" });
same("CreateKey", [key.KeySpec, key.MacAlgorithms, key.Enabled], ["HMAC_256", [MacAlgorithm], true]);
report(Math.abs(key.CreationDate - new Date()) < 60000, "CreationDate", key.CreationDate);
const KeyId = key.KeyId;
same("DescribeKey", (await call("DescribeKey", { KeyId: key.Arn })).KeyMetadata, key);

const made = await call("GenerateMac", { KeyId, Message, MacAlgorithm });
same("GenerateMac", [made.Mac.length, made.KeyId], [32, key.Arn]);
same("VerifyMac", (await call("VerifyMac", { KeyId, Message, MacAlgorithm, Mac: made.Mac })).MacValid, true);
await refused("KMSInvalidMacException", undefined, "VerifyMac", { KeyId, Message, MacAlgorithm, Mac: Message });
await refused("InvalidKeyUsageException", "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256.", "GenerateMac", { KeyId, Message, MacAlgorithm: "HMAC_SHA_512" });
await refused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.", "GenerateMac", { KeyId, Message, MacAlgorithm, DryRun: true });
await refused("InvalidGrantTokenException", "The grant token is not valid.", "GenerateMac", { KeyId, Message, MacAlgorithm, GrantTokens: ["nonsense"] });
await refused("NotFoundException", "Invalid keyId 'nonsense'", "GenerateMac", { KeyId: "nonsense", Message, MacAlgorithm });
await refused("ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1", "GenerateMac", { KeyId, Message: new Uint8Array(), MacAlgorithm });

await call("CreateAlias", { AliasName: "alias/js", TargetKeyId: KeyId });
same("GenerateMac by alias", (await call("GenerateMac", { KeyId: "alias/js", Message, MacAlgorithm })).Mac, made.Mac);
const aliases = await call("ListAliases", { KeyId });
same("ListAliases", [aliases.Aliases.map((a) => a.AliasName), aliases.Truncated], [["alias/js"], false]);
await refused("AlreadyExistsException", undefined, "CreateAlias", { AliasName: "alias/js", TargetKeyId: KeyId });
await refused("InvalidArnException", "Key Aliases are not supported for this operation.", "EnableKey", { KeyId: "alias/js" });
await call("DeleteAlias", { AliasName: "alias/js" });

let found = 0;
for await (const page of sdk.paginateListKeys({ client: kms, pageSize: 1 }, {})) found += page.Keys.filter((k) => k.KeyId === KeyId).length;
same("ListKeys", found, 1);

await call("TagResource", { KeyId, Tags: [{ TagKey: "a", TagValue: "1" }, { TagKey: "b", TagValue: "2" }] });
await call("UntagResource", { KeyId, TagKeys: ["a"] });
same("ListResourceTags", (await call("ListResourceTags", { KeyId })).Tags, [{ TagKey: "b", TagValue: "2" }]);
await refused("TagException", "Tags beginning with aws: are reserved", "TagResource", { KeyId, Tags: [{ TagKey: "aws:a", TagValue: "" }] });

await call("DisableKey", { KeyId });
await refused("DisabledException", `${key.Arn} is disabled.`, "GenerateMac", { KeyId, Message, MacAlgorithm });
await call("EnableKey", { KeyId });
const scheduled = await call("ScheduleKeyDeletion", { KeyId, PendingWindowInDays: 7 });
same("ScheduleKeyDeletion", [scheduled.KeyState, Math.round((scheduled.DeletionDate - new Date()) / 86400000)], ["PendingDeletion", 7]);
await refused("KMSInvalidStateException", `${key.Arn} is pending deletion.`, "GenerateMac", { KeyId, Message, MacAlgorithm });
same("CancelKeyDeletion", (await call("CancelKeyDeletion", { KeyId })).KeyId, key.Arn);

const external = (await call("CreateKey", { KeySpec: "HMAC_384", KeyUsage: "GENERATE_VERIFY_MAC", Origin: "EXTERNAL" })).KeyMetadata.KeyId;
const parameters = await call("GetParametersForImport", { KeyId: external, WrappingAlgorithm: "RSAES_OAEP_SHA_1", WrappingKeySpec: "RSA_4096" });
const material = randomBytes(48);
const wrapped = publicEncrypt(
  { key: createPublicKey({ key: Buffer.from(parameters.PublicKey), format: "der", type: "spki" }), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha1" },
  material,
);
const token = { KeyId: external, ImportToken: parameters.ImportToken };
await call("ImportKeyMaterial", { ...token, EncryptedKeyMaterial: wrapped, ValidTo: new Date(Date.now() + 3600000) });
const imported = await call("GenerateMac", { KeyId: external, Message, MacAlgorithm: "HMAC_SHA_384" });
same("MAC under imported material", Buffer.from(imported.Mac).toString("hex"), createHmac("sha384", material).update(Message).digest("hex"));
await refused("InvalidCiphertextException", undefined, "ImportKeyMaterial", { ...token, EncryptedKeyMaterial: randomBytes(512), ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE" });
await call("DeleteImportedKeyMaterial", { KeyId: external });

await refused("UnsupportedOperationException", undefined, "RotateKeyOnDemand", { KeyId: (await call("CreateKey", { KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC" })).KeyMetadata.KeyId });
await refused("AccessDeniedException", `User: arn:aws:iam::000000000000:user/vault is not authorized to perform: kms:ListKeys on resource: * because no identity-based policy allows the kms:ListKeys action`, "ListKeys", {}, withToken(process.env.NOBODY_TOKEN));
await refused("UnrecognizedClientException", "The security token included in the request is invalid.", "ListKeys", {}, withToken("nonsense"));
process.exit(failed ? 1 : 0);
